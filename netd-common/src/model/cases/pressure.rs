//! No room for a further flow: none in the table, or none in a quota.

use std::{vec, vec::Vec};

use super::{Case, SNAT_PORT, syn, syn_ack, udp};
use crate::{
    abi::{
        Family, Quota, Tally,
        wire::{TCP_ACK, TCP_FIN, TCP_SYN},
    },
    model::{
        Layer4, World,
        scene::{CLIENT, HOST, OUTSIDE, ROUTER_MAC, UP0, UPLINK_MAC, WEB, frame, incoming},
        std,
    },
    verdict::{
        DropReason,
        Hook::{FromContainer, FromUplink, ToUplink},
    },
};

/// Both may have one flow, and have it.
fn used_up(world: &mut World) {
    for container in [CLIENT, WEB] {
        world.quotas.insert(container.ifindex, Quota { max: 1, pad: 0, forgotten: 6 });
        world.tallies.insert(container.ifindex, Tally { answered: 7 });
    }
}

/// The client may have one flow, and has none yet.
fn one_left(world: &mut World) {
    world.quotas.insert(CLIENT.ifindex, Quota { max: 1, ..Quota::default() });
    world.tallies.insert(CLIENT.ifindex, Tally::default());
}

fn full(world: &mut World) {
    world.flows_capacity = 0;
}

pub(super) fn cases(f: Family) -> Vec<Case> {
    let out = CLIENT.sends(OUTSIDE[f], syn(40_000, 443));
    let leaves = frame(UP0, {
        let mut out = out.clone();
        (out.src_mac, out.dst_mac) = (UPLINK_MAC, ROUTER_MAC);
        out.frame()
    });
    let from_client = |flags| {
        let layer4 = Layer4::Tcp { sport: 40_000, dport: 443, flags };
        CLIENT.frame(&CLIENT.sends(OUTSIDE[f], layer4))
    };
    let to_client = |flags| {
        let layer4 = Layer4::Tcp { sport: 443, dport: SNAT_PORT, flags };
        frame(UP0, incoming(OUTSIDE[f], HOST[f], layer4).frame())
    };
    let second = CLIENT.frame(&CLIENT.sends(OUTSIDE[f], syn(40_001, 443)));
    let back = to_client(TCP_SYN | TCP_ACK);
    let asked = frame(UP0, incoming(OUTSIDE[f], HOST[f], syn(40_000, 8080)).frame());
    let answer = WEB.frame(&WEB.sends(OUTSIDE[f], syn_ack(80, 40_000)));
    let dns = WEB.sends(OUTSIDE[f], udp(40_000, 53));
    vec![
        Case::new(FromContainer, "more flows than a container may have", CLIENT.frame(&out))
            .given(used_up)
            .drops(DropReason::FlowQuota),
        Case::new(ToUplink, "more flows than a container may have", leaves)
            .given(used_up)
            .drops(DropReason::FlowQuota),
        Case::new(FromContainer, "a flow beside one in the place of one that was over", second)
            .after(FromContainer, from_client(TCP_SYN))
            .after(FromUplink, back.clone())
            .after(FromContainer, from_client(TCP_FIN | TCP_ACK))
            .after(FromUplink, to_client(TCP_FIN | TCP_ACK))
            .after(FromContainer, from_client(TCP_SYN))
            .given(one_left)
            .drops(DropReason::FlowQuota),
        Case::new(FromUplink, "to a container that has all the flows it may", asked.clone())
            .given(used_up)
            .drops(DropReason::FlowQuota),
        Case::new(FromContainer, "a datagram of a container that may send none", WEB.frame(&dns))
            .given(used_up)
            .drops(DropReason::FlowQuota),
        Case::new(FromUplink, "the answer to a SYN, for which there is no room", back)
            .after(FromContainer, CLIENT.frame(&out))
            .given(full)
            .drops(DropReason::FlowTableFull)
            .model_only(),
        Case::new(FromContainer, "a published port's answer, for which there is no room", answer)
            .after(FromUplink, asked)
            .given(full)
            .drops(DropReason::FlowTableFull)
            .model_only(),
    ]
}
