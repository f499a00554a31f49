//! `cargo xtask demo`: netd's main job on real traffic, step by step, each
//! with its command and its real output. Fails if anything is not as stated.
//!
//! This is the script; the hosts that it plays on are in [`scenery`].

mod scenery;
mod state;

use std::{
    fs,
    os::unix::process::CommandExt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::{
    build::{self, Profile},
    shell,
};
use scenery::{Background, HOST_ADDRESS, Host, OUTSIDE_ADDRESS, Scenery, eventually, scratch};
use state::{State, rule_sets};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// netd is built already: set when the demo starts itself again as root
    #[arg(long, hide = true)]
    built: bool,
}

const WEB_ADDRESS: &str = "172.18.0.10";

pub(crate) fn main(args: &Args) -> Result<()> {
    let netd = if args.built { build::binary(Profile::Dev) } else { build::netd(Profile::Dev)? };
    if !shell::is_root() {
        let mut again = shell::as_root(std::env::current_exe()?)?;
        let error = again.args(["demo", "--built"]).exec();
        return Err(error).context("failed to start the demo as root");
    }

    // A signal is heeded once the running command has ended: what has been
    // made is removed then.
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, interrupted.clone())?;
    }

    let start = Instant::now();
    let before = State::of_machine()?;
    let scenery = Scenery::new(netd)?;
    let mut demo = Demo { scenery: &scenery, interrupted, step: 0 };
    let played = demo.play();
    if played.is_err() {
        let log = fs::read_to_string(scratch("agent.log")).unwrap_or_default();
        println!("\nThis went wrong; the agent's log:\n{log}");
    }
    demo.title("Taking the two hosts away");
    let removed = scenery.remove();
    played.and(removed)?;
    before.ensure_equal(&State::of_machine()?)?;
    said("the machine's links, mounts, namespaces, pins and rule sets are as they were");
    println!("\nAll of it is as stated ({:.1} s).", start.elapsed().as_secs_f32());
    Ok(())
}

struct Demo<'a> {
    scenery: &'a Scenery,
    interrupted: Arc<AtomicBool>,
    step: usize,
}

impl Demo<'_> {
    fn play(&mut self) -> Result<()> {
        self.step("A host with a firewall that forwards nothing, and a machine outside")?;
        let outside_web = self.outside()?;
        self.firewall()?;
        let rules = rule_sets(self.scenery)?;

        self.step("An agent")?;
        let agent = self.agent()?;
        let before = State::of_host(self.scenery)?;

        self.step("A network, a web server with a published port, and a client")?;
        self.containers()?;
        self.step("Container to container")?;
        self.between_containers()?;
        self.step("Container to outside: the outside sees the host's address")?;
        self.container_to_outside(&outside_web)?;
        self.step("Outside to the published port: the web server sees the client's address")?;
        self.outside_to_port()?;
        self.step("The host itself to the published port")?;
        self.host_to_port()?;
        self.step("Flows and counters")?;
        self.flows_and_counters()?;
        self.step("No rule of netfilter was needed")?;
        self.same_rules(&rules)?;

        self.step("All of it removed")?;
        self.remove(&before)?;
        self.same_rules(&rules)?;
        println!("host$ kill -TERM AGENT");
        agent.terminate()?;
        said("the agent ended in order");
        Ok(())
    }

    fn outside(&self) -> Result<Background> {
        self.host("ip -brief address show uplink")?;
        Self::page("outside", "the page of the machine outside")?;
        let root = scratch("www/outside");
        let line = format!("busybox httpd -f -vv -p {OUTSIDE_ADDRESS}:80 -h {}", root.display());
        let server = self.scenery.start(Host::Outside, &line, "outside.log")?;
        self.listens(Host::Outside, "", 80)?;
        Ok(server)
    }

    /// A firewall as Docker would leave it, and one of someone else's.
    fn firewall(&self) -> Result<()> {
        let rules = scratch("firewall.nft");
        fs::write(
            &rules,
            "table inet firewall {\n  chain forward {\n    type filter hook forward priority filter; policy drop;\n  }\n}\n",
        )?;
        self.host(&format!("nft -f {}", rules.display()))?;
        self.host("iptables -P FORWARD DROP")?;
        self.host("nft list ruleset")?;
        Ok(())
    }

    fn agent(&self) -> Result<Background> {
        let mut agent = self.scenery.start(Host::Host, "netd agent", "agent.log")?;
        eventually("the agent answers", || {
            agent.check()?;
            Ok(scratch("root/run/netd.sock").exists().then_some(()))
        })?;
        self.host("netd network ls")?;
        Ok(agent)
    }

    fn containers(&self) -> Result<()> {
        self.host("netd network create --subnet 172.18.0.0/16 -o com.docker.network.bridge.name=docker1 mynetwork")?;
        Self::page("web", "the page of the container")?;
        let page = scratch("www/web");
        self.host(&format!(
            "netd run -d --name web --network mynetwork --ip {WEB_ADDRESS} -p 8080:80 -- busybox httpd -f -vv -p 80 -h {}",
            page.display()
        ))?;
        self.host("netd run -d --name client --network mynetwork -- busybox sleep 600")?;
        self.listens(Host::Host, "netd exec web -- ", 80)?;

        self.host("netd network ls")?;
        self.host("netd ps")?;
        self.host("netd port ls")?;
        self.host("ip -brief link show master docker1")?;
        let running = rows(&self.json("netd ps --json")?, |row| row["State"] == "running");
        expect(running == 2, "two containers run")?;
        let published = rows(&self.json("netd port ls --json")?, |row| {
            row["Container"] == "web" && row["HostPort"] == 8080 && row["ContainerPort"] == 80
        });
        // One row for each host address: IPv4, and IPv6 where there is some.
        expect(published >= 1, "port 8080 of the host leads to port 80 of `web`")
    }

    fn between_containers(&self) -> Result<()> {
        let ping = self.host(&format!("netd exec client -- ping -c 3 -i 0.2 {WEB_ADDRESS}"))?;
        expect(ping.contains(" 0% packet loss"), "every echo was answered")?;

        let server = self.scenery.start(
            Host::Host,
            "netd exec web -- iperf3 --server --one-off",
            "iperf3.log",
        )?;
        self.listens(Host::Host, "netd exec web -- ", 5201)?;
        let line = format!("netd exec client -- iperf3 --client {WEB_ADDRESS} --time 2 --format g");
        self.host(&line)?;
        server.wait()?;
        let page = self.host(&format!("netd exec client -- curl -sS http://{WEB_ADDRESS}/"))?;
        expect(page.contains("the page of the container"), "the client reads the web server's page")
    }

    fn container_to_outside(&self, server: &Background) -> Result<()> {
        let ping = self.host(&format!("netd exec client -- ping -c 3 -i 0.2 {OUTSIDE_ADDRESS}"))?;
        expect(ping.contains(" 0% packet loss"), "every echo was answered")?;
        let page = self.host(&format!("netd exec client -- curl -sS http://{OUTSIDE_ADDRESS}/"))?;
        expect(
            page.contains("the page of the machine outside"),
            "the client reads a page of the outside",
        )?;

        println!("outside$ cat {}", scratch("outside.log").display());
        let log = eventually("the server outside writes its log", || {
            let log = server.log();
            Ok((!clients(&log).is_empty()).then_some(log))
        })?;
        print!("{log}");
        expect(
            clients(&log).iter().all(|client| client == HOST_ADDRESS),
            "the outside saw the host's address, and no container's",
        )
    }

    fn outside_to_port(&self) -> Result<()> {
        let page =
            self.scenery.run(Host::Outside, &format!("curl -sS http://{HOST_ADDRESS}:8080/"))?;
        expect(
            page.contains("the page of the container"),
            "the outside reads the container's page",
        )?;
        eventually("the web server writes its log", || {
            let log = self.scenery.capture(Host::Host, "netd logs web")?;
            Ok((clients(&log).len() >= 2).then_some(()))
        })?;
        let log = self.host("netd logs web")?;
        // The first was the client container, the second is the outside.
        expect(
            clients(&log).last().is_some_and(|client| client == OUTSIDE_ADDRESS),
            "the web server's log shows the client's own address",
        )
    }

    fn host_to_port(&self) -> Result<()> {
        for address in [HOST_ADDRESS, "127.0.0.1", "[::1]"] {
            let page = self.host(&format!("curl -sS http://{address}:8080/"))?;
            let what = format!("a process of the host's reads the page by {address}");
            expect(page.contains("the page of the container"), &what)?;
        }
        Ok(())
    }

    fn flows_and_counters(&self) -> Result<()> {
        self.host("netd flows")?;
        let flows = self.json("netd flows --json")?;
        let snat = rows(&flows, |row| row["Nat"] == "snat" && row["Reply"]["Dst"] == HOST_ADDRESS);
        expect(snat > 0, "there are flows that go out from the host's address")?;
        let dnat =
            rows(&flows, |row| row["Nat"] == "dnat" && row["Original"]["Src"] == OUTSIDE_ADDRESS);
        expect(dnat > 0, "there are flows that come in through the published port")?;

        self.host("netd stats")?;
        let stats = self.json("netd stats --json")?;
        for program in ["from_container", "from_uplink"] {
            let counted =
                rows(&stats, |row| row["Program"] == program && row["Packets"].as_u64() > Some(0));
            expect(counted > 0, &format!("`{program}` has counted packets"))?;
        }
        Ok(())
    }

    fn same_rules(&self, before: &[String; 3]) -> Result<()> {
        let now = rule_sets(self.scenery)?;
        for (name, (before, now)) in ["nft list ruleset", "iptables-save", "ip6tables-save"]
            .iter()
            .zip(before.iter().zip(&now))
        {
            println!("host$ {name} | cmp - before");
            expect(before == now, &format!("the {} bytes are the same", before.len()))?;
        }
        Ok(())
    }

    fn remove(&self, before: &State) -> Result<()> {
        self.host("netd stop web client")?;
        self.host("netd rm web client")?;
        self.host("netd network rm mynetwork")?;
        self.host("netd ps -a")?;
        self.host("netd network ls")?;
        self.host("ip -brief link show")?;
        expect(rows(&self.json("netd ps -a --json")?, |_| true) == 0, "no container is left")?;
        expect(rows(&self.json("netd flows --json")?, |_| true) == 0, "no flow is left")?;
        before.ensure_equal(&State::of_host(self.scenery)?)?;
        said(&format!(
            "links, routes, namespaces and pins ({}) are as before the network",
            before.len()
        ));
        Ok(())
    }

    fn host(&self, line: &str) -> Result<String> {
        self.not_interrupted()?;
        self.scenery.run(Host::Host, line)
    }

    fn json(&self, line: &str) -> Result<Value> {
        let text = self.scenery.capture(Host::Host, line)?;
        serde_json::from_str(&text).with_context(|| format!("`{line}` printed no JSON: {text}"))
    }

    /// Waits until something listens on a TCP port, where `prefix` leads.
    fn listens(&self, host: Host, prefix: &str, port: u16) -> Result<()> {
        eventually(&format!("something listens on port {port}"), || {
            self.not_interrupted()?;
            let sockets =
                self.scenery.capture(host, &format!("{prefix}ss -Htln sport = :{port}"))?;
            Ok((!sockets.trim().is_empty()).then_some(()))
        })
    }

    fn page(site: &str, text: &str) -> Result<()> {
        let folder = scratch("www").join(site);
        fs::create_dir_all(&folder)?;
        Ok(fs::write(folder.join("index.html"), format!("{text}\n"))?)
    }

    fn step(&mut self, title: &str) -> Result<()> {
        self.not_interrupted()?;
        self.title(title);
        Ok(())
    }

    fn title(&mut self, title: &str) {
        self.step += 1;
        println!("\n{}. {title}", self.step);
    }

    fn not_interrupted(&self) -> Result<()> {
        ensure!(!self.interrupted.load(Ordering::Relaxed), "interrupted");
        Ok(())
    }
}

fn said(what: &str) {
    println!("  ok: {what}");
}

fn expect(holds: bool, what: &str) -> Result<()> {
    ensure!(holds, "this does not hold: {what}");
    said(what);
    Ok(())
}

/// The clients in the log of busybox's httpd, whose lines are
/// `ADDRESS:PORT: url:/PATH`, with `[::ffff:ADDRESS]` on an IPv6 socket.
fn clients(log: &str) -> Vec<String> {
    log.lines()
        .filter_map(|line| line.split_once(": url:"))
        .filter_map(|(client, _)| client.rsplit_once(':'))
        .map(|(address, _)| {
            let address = address.trim_matches(['[', ']']);
            address.strip_prefix("::ffff:").unwrap_or(address).to_owned()
        })
        .collect()
}

fn rows(list: &Value, mut wanted: impl FnMut(&Value) -> bool) -> usize {
    list.as_array().map_or(0, |rows| rows.iter().filter(|row| wanted(row)).count())
}

#[cfg(test)]
mod tests {
    use super::clients;

    #[test]
    fn a_log_names_its_clients_on_sockets_of_both_families() {
        let log = "192.0.2.7:56546: url:/\n192.0.2.7:56546: response:200\n[::ffff:192.0.2.8]:1: url:/\n[2001:db8::1]:2: url:/\n";
        assert_eq!(clients(log), ["192.0.2.7", "192.0.2.8", "2001:db8::1"]);
    }
}
