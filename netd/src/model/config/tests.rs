use proptest::prelude::*;

use super::*;

fn config(text: &str) -> Result<Config, ConfigError> {
    Config::try_from(text.parse::<ConfigFile>()?)
}

fn error(text: &str) -> String {
    config(text).unwrap_err().to_string()
}

#[test]
fn nothing_written_is_the_default() {
    assert_eq!(config(""), Ok(Config::default()));
    assert_eq!(config("{}"), Ok(Config::default()));
}

#[test]
fn every_key_is_read() {
    let config = config(
        r#"{"bip": "10.5.0.1/24", "fixed-cidr": "10.5.0.128/25", "default-gateway": "10.5.0.254",
            "mtu": 1400, "icc": false, "ip-masq": false, "ipv6": false,
            "default-address-pools": [{"base": "10.0.0.0/8", "size": 24}], "ip": "127.0.0.1",
            "uplinks": ["eth0"], "xdp": "off", "live-restore": true, "flow-table-size": 65536,
            "metrics-address": "[::1]:9469", "docker-plugin": "off"}"#,
    )
    .unwrap();
    assert_eq!(config.bip, Some(Bip::Address("10.5.0.1/24".parse().unwrap())));
    assert_eq!(config.fixed_cidr, "10.5.0.128/25".parse().ok());
    assert_eq!(config.default_gateway, "10.5.0.254".parse().ok());
    assert_eq!(config.mtu, Some(1400));
    assert!(!config.icc && !config.ip_masq);
    assert_eq!(config.default_address_pools.len(), 1);
    assert_eq!(config.ip, "127.0.0.1".parse::<IpAddr>().unwrap());
    assert_eq!(config.uplinks, Some(vec!["eth0".to_owned()]));
    assert_eq!(config.xdp, Xdp::Off);
    assert_eq!(config.flow_table_size, 65536);
    assert_eq!(config.metrics_address, "[::1]:9469".parse().ok());
    assert_eq!(config.docker_plugin, SocketPlace::Off);
}

#[test]
fn the_list_of_keys_is_the_struct() {
    let serde_json::Value::Object(map) = serde_json::to_value(ConfigFile::default()).unwrap()
    else {
        panic!("an object");
    };
    assert_eq!(map.keys().map(String::as_str).collect::<Vec<_>>(), KEYS);
}

#[test]
fn an_unknown_key_names_the_nearest() {
    assert_eq!(
        error(r#"{"fixed_cidr": "10.0.0.0/8"}"#),
        "unknown configuration key `fixed_cidr`: did you mean `fixed-cidr`?"
    );
    assert_eq!(
        error(r#"{"uplink": []}"#),
        "unknown configuration key `uplink`: did you mean `uplinks`?"
    );
}

#[test]
fn a_bip_must_be_a_host_address() {
    assert_eq!(
        error(r#"{"bip": "10.5.0.0/24"}"#),
        "invalid bip 10.5.0.0/24: it is the network address of its subnet; use a host address, such as 10.5.0.1/24"
    );
    assert!(error(r#"{"bip": "10.5.0.255/24"}"#).contains("broadcast address"));
    assert!(error(r#"{"bip": "10.5.0.1"}"#).contains("an address with its prefix"));
    assert!(error(r#"{"bip": "10.5.0.1/31"}"#).contains("no room"));
    assert!(error(r#"{"bip": "fd00::1/64"}"#).contains("not supported yet"));
}

#[test]
fn a_bip_of_the_host_tells_its_node() {
    let bip = config(r#"{"bip": "host"}"#).unwrap().bip.unwrap();
    assert_eq!(
        bip.resolve(Ipv4Addr::new(10, 2, 5, 6)),
        "172.5.6.1/24".parse::<IpNetwork>().unwrap()
    );
}

#[test]
fn what_lies_outside_the_bip_is_refused() {
    assert_eq!(
        error(r#"{"bip": "10.5.0.1/24", "fixed-cidr": "10.6.0.0/25"}"#),
        "invalid fixed-cidr 10.6.0.0/25: the default bridge's subnet 10.5.0.0/24 doesn't contain it"
    );
    assert_eq!(
        error(r#"{"bip": "10.5.0.1/24", "default-gateway": "10.6.0.1"}"#),
        "invalid default-gateway 10.6.0.1: the default bridge's subnet 10.5.0.0/24 doesn't contain it"
    );
}

#[test]
fn pools_are_checked() {
    assert_eq!(
        error(r#"{"default-address-pools": [{"base": "10.1.0.0/8", "size": 24}]}"#),
        "invalid default-address-pools 10.1.0.0/8: it should be 10.0.0.0/8"
    );
    assert_eq!(
        error(r#"{"default-address-pools": [{"base": "10.0.0.0/16", "size": 8}]}"#),
        "invalid default-address-pools: size 8 doesn't fit base 10.0.0.0/16"
    );
    let pool: PoolEntry = "base=10.0.0.0/8,size=24".parse().unwrap();
    assert_eq!((pool.base.as_str(), pool.size), ("10.0.0.0/8", 24));
}

#[test]
fn flags_win_over_the_file() {
    let file: ConfigFile = r#"{"mtu": 1400, "icc": false}"#.parse().unwrap();
    let flags = ConfigFile { mtu: Some(9000), ..ConfigFile::default() };
    let config = Config::try_from(file.merge(flags)).unwrap();
    assert_eq!((config.mtu, config.icc), (Some(9000), false));
}

#[test]
fn metrics_have_an_address_and_a_port() {
    assert_eq!(
        error(r#"{"metrics-address": ":9000"}"#),
        "invalid metrics-address `:9000`: an address and a port, such as 127.0.0.1:9469, are \
         expected"
    );
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[{}\\[\\]\":,a-z0-9. /-]{0,60}") {
        let _ = config(&text);
    }

    #[test]
    fn no_bip_makes_the_parser_panic(text in "[0-9a-f.:/]{0,20}") {
        let _ = text.parse::<Bip>();
    }
}
