//! From filters to links. A TCX link is attached while the kernel waits for a
//! grace period of RCU (`tcx_entry_sync`, include/net/tcx.h), with RTNL held: 8
//! to 16 ms for each of a container's two, where all else of an attachment takes
//! three. A clsact filter waits for nothing. So a container's programs start in
//! filters, and move to links, which nobody takes off by mistake and which the
//! next agent takes over in one step, when there is time.
//!
//! For that moment a link has both. Links run first: what they redirect or drop
//! never gets to the filters. What they let go on does, and must not be seen
//! twice, so the programs end the chain (`TC_ACT_OK`) on the one link that
//! `SETTLING` names: programs of others on it are passed by until it is done.
//! The empty qdisc stays, for others may be about to fill it. Until a link is
//! settled, TCX programs of others on it come before ours.
//!
//! An agent that ends half way leaves `SETTLING` as it is, for the next to go on
//! with that link.

use aya::maps::MapError;
use netd_common::abi::names;
use nix::net::if_::if_nametoindex;

use super::{
    AttachMode, Direction, Error,
    attach::{Links, exists, not_attached, pin_name},
    tables::failed,
};

/// What became of a link that was to be settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    Moved,
    /// It is not there, or not by its name.
    Missing,
}

impl Links {
    /// Attaches without waiting for the kernel, to be settled later; or takes
    /// over what an earlier agent attached.
    pub(super) fn attach_at_once(
        &mut self,
        link: &str,
        direction: Direction,
        program: &'static str,
    ) -> Result<(), Error> {
        if self.mode() == AttachMode::Clsact {
            return self.attach(link, direction, program).map(drop);
        }
        let ifindex = if_nametoindex(link).map_err(|_| Error::NoLink(link.to_owned()))?;
        let there = self.is_there(ifindex, program).map_err(not_attached(program, link))?;
        let half_way = self.settling()? == ifindex;
        // Without cls_bpf there is the other way still.
        if !there && self.filter(link, direction, program).is_err() {
            return self.attach(link, direction, program).map(drop);
        }
        self.remember(link, ifindex, direction, program);
        if !there || half_way {
            self.settle_later(link, half_way);
        }
        Ok(())
    }

    fn settle_later(&mut self, link: &str, first: bool) {
        let Some(programs) = self.attached.get_mut(link) else { return };
        if std::mem::replace(&mut programs.in_filters, true) {
            return;
        }
        if first {
            self.unsettled.push_front(link.to_owned());
        } else {
            self.unsettled.push_back(link.to_owned());
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.unsettled.is_empty()
    }

    /// Moves the programs of one link. One that fails waits for the others.
    pub(super) fn settle(&mut self) -> Result<Settled, Error> {
        let Some(link) = self.unsettled.front().cloned() else { return Ok(Settled::Moved) };
        let Ok(ifindex) = if_nametoindex(link.as_str()) else {
            // It comes back, or those of it are detached. What another left half
            // way is not to be forgotten for the next.
            if !exists(self.settling()?) {
                self.unsettled.rotate_left(1);
            }
            return Ok(Settled::Missing);
        };
        self.set_settling(ifindex)?;
        let programs = self.attached.get(&link).map(|programs| programs.all.clone());
        for (direction, program) in programs.unwrap_or_default() {
            let moved = self.attach(&link, direction, program);
            // Its filter was looked for under its name.
            if if_nametoindex(link.as_str()) != Ok(ifindex) {
                return Ok(Settled::Missing);
            }
            if let Err(error) = moved {
                // Unless it is in its link and may be in its filter too.
                if !self.held.is_in_place(&pin_name(ifindex, program)) {
                    self.set_settling(0)?;
                    self.unsettled.rotate_left(1);
                }
                return Err(error);
            }
        }
        self.set_settling(0)?;
        self.unsettled.pop_front();
        if let Some(programs) = self.attached.get_mut(&link) {
            programs.in_filters = false;
        }
        Ok(Settled::Moved)
    }

    pub(super) fn settling(&self) -> Result<u32, Error> {
        match self.settling.get(&0, 0) {
            Err(MapError::KeyNotFound) => Ok(0),
            result => result.map_err(failed(names::SETTLING)),
        }
    }

    pub(super) fn set_settling(&mut self, ifindex: u32) -> Result<(), Error> {
        self.settling.set(0, ifindex, 0).map_err(failed(names::SETTLING))
    }
}
