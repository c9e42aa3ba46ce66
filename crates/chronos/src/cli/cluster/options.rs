//! From flags to how a node takes part in its cluster.

use std::net::IpAddr;

use chronos_node::cluster::{
    numbered, Beginning, ClusterOptions, ClusterStart, Member, MemberError, NodeIdentity, Timing,
};
use chronos_node::Profile;

use crate::cli::args::{ClusterArgs, HostPort, NamedAddress};
use crate::cli::error::CliError;

/// So many heartbeats are missed, at least, before another leader is elected.
const HEARTBEATS_MISSED_MIN: u64 = 5;
/// And so many unless told otherwise.
const HEARTBEATS_MISSED: u64 = 10;

/// What a data directory says.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) identity: NodeIdentity,
    /// Whether there is a database in it.
    pub(super) has_store: bool,
}

impl Known {
    /// Whether the node begins its cluster, if it has not done so: a snapshot was restored for it. One
    /// that has lost its files does not, as it would be another one.
    fn begins(&self) -> bool {
        self.identity.began == Beginning::Alone && self.has_store
    }
}

/// How the node takes part. `address`: where others reach it; `known`: what its data directory
/// says; `profile` has the times that are not given. The id of a cluster that is to be joined is
/// not known yet.
///
/// Errors: what is given does not go together.
pub(super) fn cluster_options(
    args: &ClusterArgs,
    address: &HostPort,
    known: Option<&Known>,
    profile: Profile,
) -> Result<ClusterOptions, CliError> {
    if is_unspecified(address) {
        return Err(CliError::Usage(format!(
            "other nodes cannot reach {address}: give --address the address of this machine, and \
             --listen-address {address}"
        )));
    }
    if args.join.as_ref() == Some(address) {
        return Err(CliError::Usage(format!(
            "--join {address} is this node itself: name a member of the cluster, or begin one with --bootstrap"
        )));
    }
    let member = Member::new(&args.id, &address.to_string()).map_err(|e| wrong(&e))?;
    let start = if !args.peers.is_empty() {
        ClusterStart::Static(members(&member, &args.peers)?)
    } else if args.bootstrap || (args.join.is_none() && known.is_some_and(Known::begins)) {
        ClusterStart::Alone
    } else if args.join.is_some() || known.is_some() {
        ClusterStart::Join
    } else {
        return Err(CliError::Usage(
            "a node that was never started needs one of --peers, --bootstrap and --join\n\
             See: chronos node --help"
                .to_owned(),
        ));
    };
    Ok(ClusterOptions {
        member,
        start,
        cluster_id: args.cluster_id.clone(),
        timing: timing(args, profile)?,
        lease_reads: args.lease_reads,
        log_keep_for: args.log_keep_for.duration(),
        ..ClusterOptions::default()
    })
}

fn is_unspecified(address: &HostPort) -> bool {
    let ip = address.host.parse::<IpAddr>();
    ip.is_ok_and(|ip| ip.is_unspecified())
}

fn wrong(error: &MemberError) -> CliError {
    CliError::Usage(error.to_string())
}

/// All members: those named, and the node itself, which may be named too.
fn members(own: &Member, peers: &[NamedAddress]) -> Result<Vec<Member>, CliError> {
    if own.address.ends_with(":0") {
        return Err(CliError::Usage(
            "others cannot reach port 0: --peers needs an --address with a port".to_owned(),
        ));
    }
    let mut members = vec![own.clone()];
    for peer in peers {
        let member = Member::new(&peer.name, &peer.address.to_string()).map_err(|e| wrong(&e))?;
        let known = members
            .iter()
            .find(|m| m.name == member.name || m.address == member.address);
        match known {
            None => members.push(member),
            Some(same) if *same == member => {}
            Some(other) => {
                return Err(CliError::Usage(format!(
                    "--peers names {}={}, but {}={} is a member already",
                    member.name, member.address, other.name, other.address
                )))
            }
        }
    }
    numbered(&members).map_err(|e| wrong(&e))?;
    members.sort_by_key(|m| m.number);
    Ok(members)
}

fn timing(args: &ClusterArgs, profile: Profile) -> Result<Option<Timing>, CliError> {
    let timing = match (args.heartbeat_ms, args.election_timeout_ms) {
        (None, None) => return Ok(None),
        (Some(heartbeat_ms), None) => Timing {
            heartbeat_ms,
            election_timeout_ms: heartbeat_ms * HEARTBEATS_MISSED,
        },
        (None, Some(election_timeout_ms)) => Timing {
            heartbeat_ms: profile
                .heartbeat_ms()
                .min(election_timeout_ms / HEARTBEATS_MISSED)
                .max(1),
            election_timeout_ms,
        },
        (Some(heartbeat_ms), Some(election_timeout_ms)) => Timing {
            heartbeat_ms,
            election_timeout_ms,
        },
    };
    if timing.election_timeout_ms < timing.heartbeat_ms * HEARTBEATS_MISSED_MIN {
        return Err(CliError::Usage(format!(
            "--election-timeout-ms {} is too short for a heartbeat every {} ms: give at least {}",
            timing.election_timeout_ms,
            timing.heartbeat_ms,
            timing.heartbeat_ms * HEARTBEATS_MISSED_MIN
        )));
    }
    Ok(Some(timing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command};
    use chronos_node::cluster::NodeNumber;
    use clap::Parser as _;

    fn of(line: &str, known: Option<&Known>) -> Result<ClusterOptions, String> {
        let line = format!("chronos node {line}");
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Node(args) = cli.command else {
            panic!("expected node")
        };
        let address = &args.start.address;
        cluster_options(&args.cluster, address, known, Profile::Standard).map_err(|e| e.to_string())
    }

    #[test]
    fn members_of_a_static_start_are_the_same_on_each() {
        let begun = |line: &str| {
            let ClusterStart::Static(members) = of(line, None).unwrap().start else {
                panic!("{line} is a static start")
            };
            members
        };
        let first = begun("--id n1 --address a:1 --peers n2=b:2,n3=c:3");
        assert_eq!(first.len(), 3);
        assert_eq!(
            first,
            begun("--id n3 --address c:3 --peers n1=a:1,n2=b:2,n3=c:3")
        );
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (line, reason) in [
            ("--id n1", "needs one of --peers"),
            ("--id n/1 --bootstrap", "is no name of a node"),
            (
                "--id n1 --address 0.0.0.0:8000 --bootstrap",
                "--listen-address 0.0.0.0:8000",
            ),
            ("--id n1 --address a:0 --peers n2=b:1", "port 0"),
            ("--id n1 --address a:1 --join a:1", "this node itself"),
            ("--id n1 --address a:1 --peers n1=b:1", "member already"),
            ("--id n1 --address a:1 --peers n2=a:1", "member already"),
            ("--id n1 --address a:1 --peers m1=b:1", "number 1"),
            (
                "--id n1 --bootstrap --heartbeat-ms 100 --election-timeout-ms 200",
                "at least 500",
            ),
        ] {
            let refused = of(line, None).unwrap_err();
            assert!(refused.contains(reason), "{line}: {refused}");
        }
    }

    #[test]
    fn a_node_that_was_started_before_waits_for_its_cluster() {
        let start = |began, has_store| {
            let identity = NodeIdentity {
                cluster_id: "c".into(),
                name: "n1".into(),
                number: NodeNumber(1),
                began,
            };
            let known = Known {
                identity,
                has_store,
            };
            of("--id n1", Some(&known)).unwrap().start
        };
        for began in [Beginning::Static, Beginning::Join] {
            assert_eq!(start(began, true), ClusterStart::Join);
        }
        // It was the first, or is to be: a snapshot was restored for it.
        assert_eq!(start(Beginning::Alone, true), ClusterStart::Alone);
        assert_eq!(start(Beginning::Alone, false), ClusterStart::Join);
    }

    #[test]
    fn times_that_are_not_given_follow_the_others() {
        let timing = |line: &str| {
            of(&format!("--id n1 --bootstrap {line}"), None)
                .unwrap()
                .timing
        };
        assert_eq!(timing(""), None);
        let given = timing("--heartbeat-ms 20").unwrap();
        assert_eq!(given.election_timeout_ms, 200);
        let given = timing("--election-timeout-ms 500").unwrap();
        assert_eq!(given.heartbeat_ms, 50);
    }
}
