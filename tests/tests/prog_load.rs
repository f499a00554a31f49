//! The kernel takes the programs.

#[test]
fn the_verifier_accepts_every_program() {
    let dir = std::path::PathBuf::from(format!("/sys/fs/bpf/netd-load-{}", std::process::id()));
    let options = netd::datapath::Options { flow_table_size: 1024, attach: None };
    let datapath = match netd::datapath::Datapath::load(&dir, &options) {
        Ok(d) => d,
        Err(e) => {
            let mut m = format!("{e}");
            let mut s: &dyn std::error::Error = &e;
            while let Some(n) = s.source() {
                m += &format!(": {n}");
                s = n;
            }
            let n = m.len().saturating_sub(6000);
            eprintln!("{}", &m[n..]);
            let _ = std::fs::remove_dir_all(&dir);
            panic!()
        }
    };
    datapath.destroy().unwrap();
    assert!(!dir.exists());
}
