//! `netd monitor`: from the programs' events, and from what becomes of the
//! state, to those who listen. Programs tell of their drops only while someone
//! listens for them.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use netd_common::{
    abi::{
        Address, Event, Family, PortKey,
        wire::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6},
    },
    verdict::{Hook, outcome_name},
};
use nix::{
    net::if_::if_indextoname,
    time::{ClockId, clock_gettime},
};
use tokio::{
    sync::{broadcast, mpsc},
    time::sleep,
};

use super::{Agent, Notice, flows::protocol, life, work::port_key};
use crate::{
    api::{
        ServiceError,
        monitor::{DropEvent, Filter, LifeEvent, Listener, Missed, MonitorEvent, Why},
    },
    controller::{self, Change, State},
    datapath::{Events, Telling},
};

/// How often listeners are told what was left out, and looked after.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// Events that wait for a listener.
const BACKLOG: usize = 4096;
/// Events that the actor is handed at a time, and the time between two hands.
const BATCH: usize = 4096;
const PAUSE: Duration = Duration::from_millis(50);
/// Listeners at a time: each has a connection for as long as it likes.
const LISTENERS: usize = 64;

#[derive(Debug)]
pub(super) struct Monitor {
    listeners: broadcast::Sender<Arc<MonitorEvent>>,
    telling: Telling,
    /// As the listeners were last told.
    left_out: u64,
    /// One for each listener that wants to see drops, and this one.
    drops: Arc<()>,
    /// Uplinks and their addresses, as the listeners were last told.
    uplinks: BTreeMap<String, String>,
}

impl Monitor {
    pub(super) fn new() -> Self {
        Self {
            listeners: broadcast::Sender::new(BACKLOG),
            telling: Telling::Off,
            left_out: 0,
            drops: Arc::new(()),
            uplinks: BTreeMap::new(),
        }
    }

    /// Tells of something that was amiss (and by whom, if that is known) and is
    /// as it was again.
    pub(super) fn tell_repair(&self, what: &str, by: &str) {
        let by = if by.is_empty() { String::new() } else { format!(" (by {by})") };
        self.tell(MonitorEvent::Repair(LifeEvent::new("restore", format!("{what}{by}"))));
    }

    /// Tells how the uplinks differ from those of the last time.
    pub(super) fn tell_uplinks(&mut self, now: BTreeMap<String, String>) {
        for event in life::uplinks(&self.uplinks, &now) {
            self.tell(event);
        }
        self.uplinks = now;
    }

    pub(super) fn listeners(&self) -> usize {
        self.listeners.receiver_count()
    }

    pub(super) fn is_on(&self) -> bool {
        self.telling == Telling::On
    }

    fn tell(&self, event: MonitorEvent) {
        // It fails where nobody listens, and then nobody misses it.
        let _ = self.listeners.send(Arc::new(event));
    }
}

/// Hands what the programs tell to the actor.
pub(super) fn read(events: Events, notices: mpsc::Sender<Notice>) -> io::Result<()> {
    let mut events = events.watch()?;
    tokio::spawn(async move {
        while let Ok(mut ready) = events.readable_mut().await {
            let drops = ready.get_inner_mut().take(BATCH);
            if drops.len() < BATCH {
                ready.clear_ready();
            }
            if drops.is_empty() {
                continue;
            }
            if notices.send(Notice::Drops(drops)).await.is_err() {
                return;
            }
            sleep(PAUSE).await;
        }
    });
    Ok(())
}

impl Agent {
    /// One more listener, to what passes `filter`. A container or network that
    /// is there may be named by its id.
    pub(super) fn listen(&mut self, mut filter: Filter) -> Result<Listener, ServiceError> {
        filter.check()?;
        if self.monitor.listeners() >= LISTENERS {
            return Err(ServiceError::conflict(format!("{LISTENERS} listen already")));
        }
        for typed in &mut filter.containers {
            if let Ok(container) = controller::find_container(&self.state, typed) {
                *typed = container.name.to_string();
            }
        }
        for typed in &mut filter.networks {
            if let Ok(network) = controller::find_network(&self.state, typed) {
                *typed = network.name.to_string();
            }
        }
        let events = self.monitor.listeners.subscribe();
        let drops = filter.wants_drops().then(|| Arc::clone(&self.monitor.drops));
        if drops.is_some() && !self.monitor.is_on() {
            let tables = &mut self.work.datapath.tables;
            self.monitor.left_out = tables.events_left_out()?;
            tables.tell_events(Telling::On)?;
            self.monitor.telling = Telling::On;
        }
        Ok(Listener::new(events, filter, drops))
    }

    /// Tells of a change that is about to be made to the state.
    pub(super) fn tell_change(&self, change: &Change) {
        if self.monitor.listeners() > 0 {
            for event in life::events(&self.state, change) {
                self.monitor.tell(event);
            }
        }
    }

    /// Says what was left out, and ends the telling after the last listener.
    pub(super) fn look_after_listeners(&mut self) {
        let tables = &mut self.work.datapath.tables;
        match tables.events_left_out() {
            Ok(left_out) => {
                let count = left_out.saturating_sub(self.monitor.left_out);
                self.monitor.left_out = left_out;
                if count > 0 {
                    self.monitor.tell(MonitorEvent::Missed(Missed { count, why: Why::Sampled }));
                }
            }
            Err(error) => tracing::error!("failed to count the drops: {error}"),
        }
        if Arc::strong_count(&self.monitor.drops) == 1 {
            match tables.tell_events(Telling::Off) {
                Ok(()) => self.monitor.telling = Telling::Off,
                Err(error) => tracing::error!("failed to end the monitor: {error}"),
            }
        }
    }

    /// Tells the listeners of what was dropped.
    pub(super) fn tell_drops(&self, drops: &[Event]) {
        if Arc::strong_count(&self.monitor.drops) == 1 {
            return;
        }
        let names = Names::of(&self.state);
        let booted = booted();
        let mut links = HashMap::new();
        for event in drops {
            let link: &String = links.entry(event.ifindex).or_insert_with(|| link(event.ifindex));
            self.monitor.tell(MonitorEvent::Drop(row(event, link, &names, booted)));
        }
    }
}

/// A container and its network.
type Whose<'a> = (&'a str, &'a str);

/// Who is meant by a link, an address, a published port.
struct Names<'a> {
    links: HashMap<&'a str, Whose<'a>>,
    addresses: HashMap<Address, Whose<'a>>,
    ports: HashMap<PortKey, Whose<'a>>,
}

impl<'a> Names<'a> {
    fn of(state: &'a State) -> Self {
        let mut names =
            Self { links: HashMap::new(), addresses: HashMap::new(), ports: HashMap::new() };
        for container in state.containers.values() {
            for endpoint in &container.endpoints {
                let network = state.networks.get(&endpoint.network);
                let network = network.map_or("", |network| network.name.as_str());
                let whose = (container.name.as_str(), network);
                names.links.insert(endpoint.host_link.as_str(), whose);
                for address in [Some(endpoint.address), endpoint.address6].into_iter().flatten() {
                    names.addresses.insert(address.ip().into(), whose);
                }
                for port in &endpoint.ports {
                    let key = port_key(port.host_ip, port.host_port, port.protocol);
                    names.ports.insert(key, whose);
                }
            }
        }
        names
    }

    /// The container at the link; or else whom the packet was meant for, and
    /// then who it says it is from.
    fn find(&self, event: &Event, link: &str) -> Option<Whose<'a>> {
        let source = || self.addresses.get(&event.src);
        let destination = || self.addresses.get(&event.dst).or_else(|| self.published(event));
        let found = if event.hook == Hook::ToUplink as u32 {
            source().or_else(destination)
        } else {
            self.links.get(link).or_else(destination).or_else(source)
        };
        found.copied()
    }

    fn published(&self, event: &Event) -> Option<&Whose<'a>> {
        let exact = PortKey { addr: event.dst, port: event.dport, proto: event.proto, pad: 0 };
        let any = match event.dst.family() {
            Family::V4 => Address::ANY,
            Family::V6 => Address::ANY6,
        };
        self.ports.get(&exact).or_else(|| self.ports.get(&PortKey { addr: any, ..exact }))
    }
}

fn row(event: &Event, link: &str, names: &Names<'_>, booted: Duration) -> DropEvent {
    let address = |it: Address| (it != Address::ANY).then(|| IpAddr::from(it).to_string());
    let ports = (event.sport.0, event.dport.0) != (0, 0);
    let whose = names.find(event, link);
    let hook = Hook::ALL.into_iter().find(|hook| *hook as u32 == event.hook);
    DropEvent {
        time: rfc3339(booted + Duration::from_nanos(event.time)),
        reason: outcome_name(event.outcome).map_or("unknown", |(name, _)| name).to_owned(),
        program: hook.map_or("unknown", Hook::name).to_owned(),
        interface: link.to_owned(),
        protocol: match event.ethertype {
            ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => protocol(event.proto),
            ETHERTYPE_ARP => "arp".to_owned(),
            other => format!("{:#06x}", other.to_host()),
        },
        src: address(event.src),
        dst: address(event.dst),
        src_port: ports.then(|| event.sport.to_host()),
        dst_port: ports.then(|| event.dport.to_host()),
        container: whose.map(|(container, _)| container.to_owned()),
        network: whose.map(|(_, network)| network.to_owned()),
        length: event.len,
    }
}

/// The name of a link; its number where it has gone. Empty for a process's
/// call, which is on none.
fn link(ifindex: u32) -> String {
    if ifindex == 0 {
        return String::new();
    }
    let name = if_indextoname(ifindex).ok().and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| ifindex.to_string())
}

/// When `CLOCK_MONOTONIC` began, since the epoch.
fn booted() -> Duration {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    now.saturating_sub(monotonic.unwrap_or_default())
}

fn rfc3339(since_epoch: Duration) -> String {
    let nanoseconds = i128::try_from(since_epoch.as_nanos()).unwrap_or(i128::MAX);
    jiff::Timestamp::from_nanosecond(nanoseconds)
        .map_or_else(|_| String::new(), |time| time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
}
