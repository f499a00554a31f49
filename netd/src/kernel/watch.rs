//! Tells when the host's links, addresses, routes or filters have changed: that
//! they did, not how. Whoever wants to know looks (`observe`), so an event that
//! is lost or told twice does no harm.

use std::{collections::BTreeSet, io, time::Duration};

use rtnetlink::{
    MulticastGroup,
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};
use tokio::{
    io::unix::AsyncFd,
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{Error, sys};

/// How long changes are gathered before they are told: a plan of netd's own
/// makes a dozen of them.
const GATHER: Duration = Duration::from_millis(50);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// Or what is set for them.
    Links,
    Addresses,
    Routes,
    /// A classic filter, or all of them, went from the link of this index.
    Filters(u32),
    /// Who asked for one of the changes: the process's name and number, as the
    /// kernel passes them on and as long as it lives.
    By(String),
    /// The kernel dropped events: anything may have changed.
    Resync,
}

/// Events of the calling thread's namespace, from now on. The watch ends when
/// the receiver is dropped.
pub fn watch() -> Result<mpsc::Receiver<Event>, Error> {
    let socket = open().map_err(Error::Socket)?;
    // Room for one gathering: a receiver that is slow gets fewer and later.
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(run(socket, sender));
    Ok(receiver)
}

fn open() -> io::Result<AsyncFd<Socket>> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
        MulticastGroup::Ipv4Netconf,
        MulticastGroup::Ipv6Netconf,
        MulticastGroup::Tc,
    ];
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_non_blocking(true)?;
    let mask = groups.iter().map(|group| 1 << (*group as u32 - 1)).sum();
    socket.bind(&SocketAddr::new(0, mask))?;
    sys::async_readable(socket)
}

async fn run(socket: AsyncFd<Socket>, sender: mpsc::Sender<Event>) {
    let mut buffer = Vec::with_capacity(64 * 1024);
    let mut gathered = BTreeSet::new();
    let mut due: Option<Instant> = None;
    loop {
        tokio::select! {
            () = sender.closed() => return,
            ready = socket.readable() => {
                let Ok(mut ready) = ready else { return };
                buffer.clear();
                match ready.try_io(|socket| socket.get_ref().recv(&mut buffer, 0)) {
                    Ok(Ok(_)) => gathered.extend(events(&buffer)),
                    // ENOBUFS: events were dropped. Nothing else is known to
                    // happen; looking again does no harm.
                    Ok(Err(error)) => {
                        tracing::debug!(%error, "netlink events lost");
                        gathered.insert(Event::Resync);
                    }
                    // Nothing there after all.
                    Err(_) => {}
                }
                if !gathered.is_empty() {
                    due.get_or_insert_with(|| Instant::now() + GATHER);
                }
            }
            () = wait(due) => {
                due = None;
                for event in std::mem::take(&mut gathered) {
                    if sender.send(event).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

async fn wait(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `RTM_NEWNETCONF` (include/uapi/linux/rtnetlink.h).
const RTM_NEWNETCONF: u16 = 80;

/// What the messages of one datagram are about. Only their heads are read.
fn events(mut datagram: &[u8]) -> BTreeSet<Event> {
    let mut found = BTreeSet::new();
    while let Some((&[a, b, c, d, low, high], _)) = datagram.split_first_chunk::<6>() {
        let event = match u16::from_ne_bytes([low, high]) {
            libc::RTM_NEWLINK | libc::RTM_DELLINK | RTM_NEWNETCONF => Some(Event::Links),
            libc::RTM_NEWADDR | libc::RTM_DELADDR => Some(Event::Addresses),
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE => Some(Event::Routes),
            // `struct tcmsg`: the family and padding, then the link's index.
            libc::RTM_DELQDISC | libc::RTM_DELTFILTER => {
                word(datagram, HEADER + 4).map(Event::Filters)
            }
            _ => None,
        };
        if event.is_some() {
            found.extend(word(datagram, 12).and_then(asker).map(Event::By));
        }
        found.extend(event);
        let length = u32::from_ne_bytes([a, b, c, d]) as usize;
        let next = length.max(HEADER).next_multiple_of(4);
        datagram = datagram.get(next..).unwrap_or_default();
    }
    found
}

fn word(datagram: &[u8], at: usize) -> Option<u32> {
    let bytes = datagram.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

/// Who asked, by the port of the socket: a process's first one has its number.
/// Nobody: the kernel itself, the agent, or a process that has ended.
fn asker(port: u32) -> Option<String> {
    if port == 0 || port == std::process::id() {
        return None;
    }
    let name = std::fs::read_to_string(format!("/proc/{port}/comm")).ok()?;
    Some(format!("{} (pid {port})", name.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_goes_is_told_with_its_link_and_who_asked() {
        let mut datagram = 36_u32.to_ne_bytes().to_vec();
        datagram.extend(libc::RTM_DELTFILTER.to_ne_bytes());
        datagram.extend([0; 6]);
        datagram.extend(1_u32.to_ne_bytes());
        datagram.extend([0, 0, 0, 0]);
        datagram.extend(7_u32.to_ne_bytes());
        datagram.extend([0; 12]);
        let found: Vec<_> = events(&datagram).into_iter().collect();
        let [Event::Filters(7), Event::By(who)] = &found[..] else { panic!("{found:?}") };
        assert!(who.ends_with("(pid 1)"), "{who}");
    }

    #[test]
    fn every_message_of_a_datagram_is_seen() {
        let mut datagram = Vec::new();
        for kind in [libc::RTM_NEWLINK, libc::RTM_DELROUTE, libc::RTM_NEWNEIGH] {
            datagram.extend(18_u32.to_ne_bytes());
            datagram.extend(kind.to_ne_bytes());
            datagram.extend([0; 14]);
        }
        let found: Vec<_> = events(&datagram).into_iter().collect();
        assert_eq!(found, [Event::Links, Event::Routes]);
        assert!(events(&[0; 3]).is_empty());
        assert!(events(&[0; 16]).is_empty());
    }
}
