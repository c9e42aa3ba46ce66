//! What the processes of a cluster have used so far: processor time, and bytes sent between them.
//!
//! Bytes are those of the kernel's counters of each connection (`ss -ti`, `bytes_sent`), of sockets with a member's
//! peer port at either end; so clients' traffic is not in it, and headers of TCP and IP are not either. What went
//! over connections that were closed meanwhile is missed.

use std::collections::HashSet;
use std::process::Command;
use std::time::Duration;

use crate::error::Result;
use crate::process::processor_time;

/// A process of a cluster.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    /// Its process id.
    pub(crate) pid: u32,
    /// Where the others connect to it.
    pub(crate) peer_port: u16,
}

/// Counters at one moment, by member.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gauge {
    /// Processor time of each member.
    pub(crate) processor: Vec<Duration>,
    /// Processor time of this process, the load generator.
    pub(crate) own_processor: Duration,
    /// Bytes each member has sent to others.
    pub(crate) sent: Vec<u64>,
}

impl Gauge {
    /// Reads them.
    pub(crate) fn read(members: &[Member]) -> Result<Gauge> {
        let gone = |pid| format!("process {pid} of the cluster is gone");
        let processor = members
            .iter()
            .map(|member| processor_time(member.pid).ok_or_else(|| gone(member.pid).into()));
        let own = std::process::id();
        Ok(Gauge {
            processor: processor.collect::<Result<_>>()?,
            own_processor: processor_time(own).ok_or_else(|| gone(own))?,
            sent: match members.len() {
                1 => vec![0],
                _ => sent(members)?,
            },
        })
    }

    /// What was used between an earlier reading and this one.
    pub(crate) fn since(&self, before: &Gauge) -> Gauge {
        let processor = self.processor.iter().zip(&before.processor);
        let sent = self.sent.iter().zip(&before.sent);
        Gauge {
            processor: processor
                .map(|(now, then)| now.saturating_sub(*then))
                .collect(),
            own_processor: self.own_processor.saturating_sub(before.own_processor),
            sent: sent.map(|(now, then)| now.saturating_sub(*then)).collect(),
        }
    }
}

fn sent(members: &[Member]) -> Result<Vec<u64>> {
    let output = Command::new("ss")
        .args(["-tinpH", "state", "established"])
        .output()
        .map_err(|error| format!("cannot run ss (package iproute2): {error}"))?;
    Ok(sent_in(&String::from_utf8_lossy(&output.stdout), members))
}

/// Adds up what `ss` printed: a line with addresses and processes, then one with counters, for each socket.
fn sent_in(text: &str, members: &[Member]) -> Vec<u64> {
    let ports: HashSet<u16> = members.iter().map(|member| member.peer_port).collect();
    let mut sums = vec![0; members.len()];
    let mut owner = None;
    for line in text.lines() {
        if !line.starts_with([' ', '\t']) {
            let between_nodes = line
                .split_whitespace()
                .filter_map(|word| word.rsplit_once(':')?.1.parse().ok())
                .any(|port: u16| ports.contains(&port));
            let pid = number_after(line, "pid=");
            let found = members
                .iter()
                .position(|member| Some(u64::from(member.pid)) == pid);
            owner = found.filter(|_| between_nodes);
        }
        if let (Some(owner), Some(bytes)) = (owner, number_after(line, "bytes_sent:")) {
            sums[owner] += bytes;
        }
    }
    sums
}

fn number_after(line: &str, name: &str) -> Option<u64> {
    let rest = &line[line.find(name)? + name.len()..];
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_between_nodes_are_added_up_by_process() {
        let text = "\
0 0 127.0.0.1:2380 127.0.0.1:50012 users:((\"etcd\",pid=10,fd=9))
\t cubic wscale:7,7 rto:201 bytes_sent:1000 bytes_acked:1000 bytes_received:7
0 0 127.0.0.1:2379 127.0.0.1:50013 users:((\"etcd\",pid=10,fd=8))
\t cubic bytes_sent:50 bytes_acked:50
0 0 127.0.0.1:50012 127.0.0.1:2380 users:((\"etcd\",pid=11,fd=7))
\t cubic bytes_sent:30 bytes_acked:30
0 0 127.0.0.1:50014 127.0.0.1:2380 users:((\"etcd\",pid=11,fd=6))
\t cubic bytes_sent:5
0 0 127.0.0.1:50019 127.0.0.1:2380 users:((\"other\",pid=99,fd=6))
\t cubic bytes_sent:9
";
        let members = [(10, 2380), (11, 2390)].map(|(pid, peer_port)| Member { pid, peer_port });
        assert_eq!(sent_in(text, &members), [1000, 35]);
    }
}
