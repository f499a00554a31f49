//! Checks of made-up hosts.

use std::fs;

use tempfile::TempDir;

use super::*;

/// A host of the files given, below `proc/` and `sys/`.
fn host(files: &[(&str, &str)]) -> (Host, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }
    let host = Host::at(dir.path().join("proc"), dir.path().join("sys"));
    (host, dir)
}

fn status(name: &str, files: &[(&str, &str)]) -> (Status, String) {
    status_of(name, files, &Known::default())
}

fn status_of(name: &str, files: &[(&str, &str)], known: &Known) -> (Status, String) {
    let (host, _dir) = host(files);
    let check = checks(&host, known).into_iter().find(|check| check.name == name).unwrap();
    (check.status, check.found)
}

const ROUTES: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
    eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\n\
    eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n\
    tun0\t000512AC\t00000000\t0001\t0\t0\t0\t00FFFFFF\n\
    netd0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF";

#[test]
fn the_kernel_decides_how_programs_attach() {
    for (release, expected) in [
        ("6.6.0", Status::Ok),
        ("6.18.44-cloud", Status::Ok),
        ("7.0-rc1", Status::Ok),
        ("6.5.13", Status::Note),
        ("5.17.0-1-amd64", Status::Note),
        ("5.16.22", Status::Problem),
        ("4.19.0", Status::Problem),
        ("", Status::Warning),
    ] {
        let (status, _) = status("kernel", &[("proc/sys/kernel/osrelease", release)]);
        assert_eq!(status, expected, "{release}");
    }
}

#[test]
fn a_hybrid_host_s_cgroup_v2_is_found() {
    let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n\
                  cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0";
    assert_eq!(
        status("cgroup v2", &[("proc/self/mounts", mounts)]),
        (Status::Ok, "mounted on /sys/fs/cgroup/unified".into())
    );
    assert_eq!(status("cgroup v2", &[]).0, Status::Note);
}

#[test]
fn bpffs_that_only_needs_a_mount_is_told_from_none() {
    let known = ("proc/filesystems", "nodev\tproc\nnodev\tbpf");
    assert_eq!(status("bpffs", &[known]).0, Status::Warning);
    assert_eq!(status("bpffs", &[]).0, Status::Problem);
    let mounts = ("proc/self/mounts", "bpf /sys/fs/bpf bpf rw 0 0");
    assert_eq!(status("bpffs", &[known, mounts]).0, Status::Ok);
}

#[test]
fn locked_memory_matters_to_old_kernels_only() {
    let limits = (
        "proc/self/limits",
        "Limit  Soft  Hard  Units\nMax locked memory         8388608              8388608     bytes",
    );
    let old = ("proc/sys/kernel/osrelease", "5.10.1");
    assert_eq!(
        status("locked memory", &[limits, old]),
        (Status::Warning, "limited to 8388608 bytes".into())
    );
    let new = ("proc/sys/kernel/osrelease", "5.11.0");
    assert_eq!(status("locked memory", &[limits, new]).0, Status::Ok);
}

#[test]
fn hostile_netfilter_is_a_note() {
    let nf = ("proc/sys/net/bridge/bridge-nf-call-iptables", "1");
    assert_eq!(status("br_netfilter", &[nf]).0, Status::Note);
    assert_eq!(status("br_netfilter", &[]).0, Status::Ok);
    let nft = "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority \
               filter; policy drop;\n\t}\n}";
    for (nft, iptables, expected) in [
        (Some(nft), None, Status::Note),
        (None, Some(":FORWARD DROP [0:0]"), Status::Note),
        (Some("table ip x {\n}"), Some(":FORWARD ACCEPT [0:0]"), Status::Ok),
        (None, None, Status::Ok),
    ] {
        let known = Known {
            nft_chains: nft.map(Into::into),
            iptables: iptables.map(Into::into),
            ..Known::default()
        };
        assert_eq!(status_of("FORWARD policy", &[], &known).0, expected);
    }
}

#[test]
fn strict_reverse_path_filtering_matters_with_several_uplinks() {
    let route = ("proc/net/route", ROUTES);
    let strict = ("proc/sys/net/ipv4/conf/eth0/rp_filter", "1");
    let loose_all = ("proc/sys/net/ipv4/conf/all/rp_filter", "2");
    assert_eq!(status("rp_filter", &[route]).0, Status::Ok);
    assert_eq!(
        status("rp_filter", &[route, strict]),
        (Status::Note, "strict on eth0: harmless with one uplink".into())
    );
    assert_eq!(status("rp_filter", &[route, strict, loose_all]).0, Status::Ok);
    let known = Known { uplinks: vec!["eth0".into(), "eth1".into()], ..Known::default() };
    assert_eq!(status_of("rp_filter", &[route, strict], &known).0, Status::Warning);
}

#[test]
fn a_wide_port_range_leaves_no_ports_for_snat() {
    for (range, expected, left) in [
        ("32768\t60999", Status::Ok, 36280),
        ("1024\t65535", Status::Problem, 0),
        ("1\t65535", Status::Problem, 0),
        ("2048\t65535", Status::Warning, 1024),
    ] {
        let (status, found) =
            status("port range", &[("proc/sys/net/ipv4/ip_local_port_range", range)]);
        assert_eq!(status, expected, "{range}");
        assert!(found.contains(&format!(" {left} are left")), "{found}");
    }
}

#[test]
fn routes_that_overlap_pools_and_networks_are_named_and_ours_are_not() {
    let files = [("proc/net/route", ROUTES), ("sys/class/net/netd0/ifalias", "netd abc")];
    let (status, found) = status("address pools", &files);
    assert_eq!(status, Status::Note);
    assert!(found.contains("172.18.0.0/16 overlaps 172.18.5.0/24 of tun0"), "{found}");
    assert!(!found.contains("172.17"), "{found}");
    let known = Known {
        networks: vec![
            ("bridge".into(), "172.17.0.0/16".parse().unwrap()),
            ("blue".into(), "172.18.0.0/16".parse().unwrap()),
        ],
        ..Known::default()
    };
    assert_eq!(
        status_of("overlap", &files, &known),
        (
            Status::Problem,
            "network blue (172.18.0.0/16) overlaps the route 172.18.5.0/24 of tun0".into()
        )
    );
}

#[test]
fn an_adopted_bridge_s_own_route_is_no_overlap() {
    let files = [
        ("proc/net/route", "Iface\tDestination\nbr0\t000012AC\t00000000\t0001\t0\t0\t0\t0000FFFF"),
        ("sys/class/net/br0/bridge/stp_state", "0"),
    ];
    let known = Known {
        networks: vec![("blue".into(), "172.18.0.0/16".parse().unwrap())],
        ..Known::default()
    };
    let (host, _dir) = host(&files);
    assert!(!checks(&host, &known).iter().any(|check| check.name == "overlap"));
}

#[test]
fn this_host_can_be_checked() {
    for check in checks(&Host::here(), &Known::default()) {
        assert!(!check.found.is_empty(), "{check:?}");
    }
}
