//! Runs plans step by step, and takes back what was done when a step fails.
//! It knows the order of things, not what a step does: that is [`Effects`].

use std::{error::Error, fmt, future::Future};

use crate::{
    controller::{Action, Op, Plan, Step},
    model::Protocol,
};

/// What can be done to the host and to the datapath. Both ways are idempotent,
/// and one that fails has left nothing of its own behind.
pub trait Effects: Send {
    fn apply(&mut self, op: &Op) -> impl Future<Output = Result<(), EffectError>> + Send;
    fn revert(&mut self, op: &Op) -> impl Future<Output = Result<(), EffectError>> + Send;
}

/// Why an effect failed. Its text is that of the layer that failed.
#[derive(Debug)]
pub struct EffectError {
    error: Box<dyn Error + Send + Sync>,
    hint: Option<String>,
    refused_port: Option<(Protocol, u16)>,
}

impl EffectError {
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { error: error.into(), hint: None, refused_port: None }
    }

    #[must_use]
    pub fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    #[must_use]
    pub fn with_refused_port(mut self, protocol: Protocol, port: u16) -> Self {
        self.refused_port = Some((protocol, port));
        self
    }

    /// What the user can do about it, or who is in the way.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The host port that is taken; another one may do.
    pub fn refused_port(&self) -> Option<(Protocol, u16)> {
        self.refused_port
    }
}

impl fmt::Display for EffectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for EffectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// A step that failed, while a plan ran or while it was undone.
#[derive(Debug, thiserror::Error)]
#[error("failed to {step}")]
pub struct StepError {
    /// What was tried with which op, after "failed to".
    pub step: String,
    #[source]
    pub error: EffectError,
}

/// A plan that failed. What it had done was undone, but for `undo`.
#[derive(Debug, thiserror::Error)]
#[error("{}{}", failed.error, Undone(undo))]
pub struct ExecError {
    // Its text is this error's text: §6.1 wants it bare.
    pub failed: StepError,
    /// What could not be undone, in the order tried.
    pub undo: Vec<StepError>,
}

struct Undone<'a>(&'a [StepError]);

impl fmt::Display for Undone<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for StepError { step, error } in self.0 {
            write!(f, "; undo: failed to {step}: {error}")?;
        }
        Ok(())
    }
}

impl ExecError {
    pub fn hint(&self) -> Option<&str> {
        self.failed.error.hint()
    }

    pub fn refused_port(&self) -> Option<(Protocol, u16)> {
        self.failed.error.refused_port()
    }
}

/// Runs all steps of `plan`. When one fails, those before it are undone in
/// reverse; an undo that fails does not stop the others.
pub async fn run(effects: &mut impl Effects, plan: &Plan) -> Result<(), ExecError> {
    for (at, step) in plan.steps.iter().enumerate() {
        if let Err(failed) = perform(effects, step.action, &step.op).await {
            let undo = undo(effects, &plan.steps[..at]).await;
            return Err(ExecError { failed, undo });
        }
    }
    Ok(())
}

/// Takes back a plan of which nobody knows how far it came: the opposite of
/// every step, in reverse. Steps that were never reached are not there, which
/// an idempotent effect takes as done. Returns what could not be undone.
pub async fn rollback(effects: &mut impl Effects, plan: &Plan) -> Vec<StepError> {
    undo(effects, &plan.steps).await
}

async fn undo(effects: &mut impl Effects, steps: &[Step]) -> Vec<StepError> {
    let mut errors = Vec::new();
    for step in steps.iter().rev() {
        let opposite = match step.action {
            Action::Apply => Action::Revert,
            Action::Revert => Action::Apply,
        };
        if let Err(error) = perform(effects, opposite, &step.op).await {
            errors.push(error);
        }
    }
    errors
}

async fn perform(effects: &mut impl Effects, action: Action, op: &Op) -> Result<(), StepError> {
    let (verb, result) = match action {
        Action::Apply => ("apply", effects.apply(op).await),
        Action::Revert => ("revert", effects.revert(op).await),
    };
    result.map_err(|error| StepError { step: format!("{verb} {}", Named(op)), error })
}

/// An op as errors and logs name it.
struct Named<'a>(&'a Op);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Op::Bridge { name, .. } => write!(f, "bridge `{name}`"),
            Op::Network { bridge, subnet, .. } => {
                write!(f, "network {subnet} of bridge `{bridge}`")
            }
            Op::Annex { name, bridge, .. } => write!(f, "annex `{name}` of bridge `{bridge}`"),
            Op::Sandbox { id, .. } => write!(f, "sandbox {}", id.short()),
            Op::Veth { host, .. } => write!(f, "veth `{host}`"),
            Op::Programs { host } => write!(f, "programs of `{host}`"),
            Op::Lease { addresses, host, .. } => match addresses.first() {
                Some(address) => write!(f, "lease of {address}"),
                None => write!(f, "lease of `{host}`"),
            },
            Op::Interface { name, netns, .. } => {
                write!(f, "interface `{name}` in {}", netns.display())
            }
            Op::HostPort { address, port, protocol } => {
                write!(f, "host port {address}:{port} ({protocol:?})")
            }
            Op::Port { host_address, host_port, protocol, .. } => {
                write!(f, "published port {host_address}:{host_port} ({protocol:?})")
            }
            Op::BridgeMtu { name, .. } => write!(f, "MTU of bridge `{name}`"),
            Op::VethMtu { host, .. } => write!(f, "MTU of veth `{host}`"),
            Op::AllowList { list, .. } => write!(f, "allow-list {list}"),
            Op::PortSources { host_address, host_port, protocol, .. } => {
                write!(f, "sources of published port {host_address}:{host_port} ({protocol:?})")
            }
            Op::RunDir { path } => write!(f, "run directory {}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::PathBuf};

    use proptest::prelude::*;

    use super::*;

    /// A host of which only run directories are known. The call with the
    /// number `fails_at` fails, and those from `undo_fails_from` on.
    #[derive(Default)]
    struct Fake {
        there: BTreeSet<PathBuf>,
        calls: usize,
        fails_at: Option<usize>,
        undo_fails: bool,
    }

    impl Fake {
        fn call(&mut self) -> Result<(), EffectError> {
            let call = self.calls;
            self.calls += 1;
            let failed =
                self.fails_at.is_some_and(|at| call == at || (self.undo_fails && call > at));
            if failed { Err(EffectError::new(format!("call {call} fails"))) } else { Ok(()) }
        }
    }

    impl Effects for Fake {
        async fn apply(&mut self, op: &Op) -> Result<(), EffectError> {
            self.call()?;
            let Op::RunDir { path } = op else { unreachable!() };
            self.there.insert(path.clone());
            Ok(())
        }

        async fn revert(&mut self, op: &Op) -> Result<(), EffectError> {
            self.call()?;
            let Op::RunDir { path } = op else { unreachable!() };
            self.there.remove(path);
            Ok(())
        }
    }

    fn wait<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn dir(n: usize) -> Op {
        Op::RunDir { path: format!("/{n}").into() }
    }

    /// A plan that changes something in each step: it creates what is not
    /// there and removes what is, as the controller's plans do.
    fn plan(there: &BTreeSet<PathBuf>, touched: &[usize]) -> Plan {
        let mut plan = Plan::default();
        for &n in touched {
            let op = dir(n);
            if there.contains(&PathBuf::from(format!("/{n}"))) {
                plan.revert(op);
            } else {
                plan.apply(op);
            }
        }
        plan
    }

    fn paths(of: BTreeSet<usize>) -> BTreeSet<PathBuf> {
        of.into_iter().map(|n| format!("/{n}").into()).collect()
    }

    proptest! {
        #[test]
        fn a_plan_that_fails_anywhere_changes_nothing(
            there in proptest::collection::btree_set(0_usize..12, 0..8),
            touched in proptest::sample::subsequence((0_usize..12).collect::<Vec<_>>(), 1..12)
                .prop_shuffle(),
            at in any::<prop::sample::Index>(),
        ) {
            let before = paths(there);
            let plan = plan(&before, &touched);
            let at = at.index(plan.steps.len());
            let mut fake = Fake { there: before.clone(), fails_at: Some(at), ..Fake::default() };
            let error = wait(run(&mut fake, &plan)).unwrap_err();
            prop_assert!(error.undo.is_empty());
            prop_assert_eq!(fake.there, before);
        }

        #[test]
        fn rolling_back_takes_a_plan_back_however_far_it_came(
            touched in proptest::sample::subsequence((0_usize..12).collect::<Vec<_>>(), 1..12),
            done in any::<prop::sample::Index>(),
        ) {
            let before = BTreeSet::new();
            let plan = plan(&before, &touched);
            let mut fake = Fake::default();
            let mut part = plan.clone();
            part.steps.truncate(done.index(plan.steps.len() + 1));
            wait(run(&mut fake, &part)).unwrap();
            prop_assert!(wait(rollback(&mut fake, &plan)).is_empty());
            prop_assert_eq!(fake.there, before);
        }
    }

    #[test]
    fn every_undo_error_is_reported_and_the_steps_are_named() {
        let plan = plan(&BTreeSet::new(), &[1, 2, 3]);
        let mut fake = Fake { fails_at: Some(2), undo_fails: true, ..Fake::default() };
        let error = wait(run(&mut fake, &plan)).unwrap_err();
        assert_eq!(error.failed.step, "apply run directory /3");
        let undone: Vec<_> = error.undo.iter().map(|e| e.step.as_str()).collect();
        assert_eq!(undone, ["revert run directory /2", "revert run directory /1"]);
        assert_eq!(
            error.to_string(),
            "call 2 fails; undo: failed to revert run directory /2: call 3 fails; \
             undo: failed to revert run directory /1: call 4 fails"
        );
    }
}
