//! `-p`, `--expose`, names and the rest of the command line's words: what is
//! read is written, and read again as the same.

use std::{fmt::Display, str::FromStr};

use crate::model::{Expose, IfName, Mac, Name, PortSpec, Protocol};

pub(super) fn play(data: &[u8]) {
    for word in String::from_utf8_lossy(data).split('\n').take(16) {
        if let Some(spec) = same::<PortSpec>(word) {
            ports(&spec);
        }
        same::<Expose>(word);
        same::<Protocol>(word);
        same::<Name>(word);
        same::<IfName>(word);
        same::<Mac>(word);
    }
}

/// Reads `text`, and again what it was read as.
fn same<T: FromStr + Display + PartialEq + std::fmt::Debug>(text: &str) -> Option<T> {
    let read: T = text.parse().ok()?;
    let written = read.to_string();
    let Ok(again) = written.parse::<T>() else {
        panic!("{text:?} is written as {written:?}, which is not read");
    };
    assert_eq!(again, read, "{text:?} is written as {written:?}");
    Some(read)
}

fn ports(spec: &PortSpec) {
    let requests = spec.expand();
    assert_eq!(requests.len(), spec.container.len());
    let wanted = spec.container.clone();
    assert!(requests.iter().map(|request| request.container_port).eq(wanted));
    for request in &requests {
        assert_ne!(request.container_port, 0);
        if let (Some(all), Some(own)) = (&spec.host, &request.host) {
            assert!(!own.is_empty() && *own.start() > 0);
            assert!(all.contains(own.start()) && all.contains(own.end()));
            if spec.protocol == Protocol::Sctp {
                assert!(own.contains(&request.container_port));
            }
        }
        assert_eq!(spec.host.is_some(), request.host.is_some());
    }
    let sources = &spec.from;
    let twice = sources.iter().enumerate().any(|(nth, one)| sources[..nth].contains(one));
    assert!(!twice, "a source is there twice: {sources:?}");
    assert!(sources.iter().all(|source| crate::ipam::network_of(*source) == *source));
}
