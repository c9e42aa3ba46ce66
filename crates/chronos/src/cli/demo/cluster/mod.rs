//! `chronos demo --nodes 3`: a cluster of local processes, whose leader is killed while sensors post.
//!
//! ```text
//!   site ─► feed (POST /ingest, to another node if one does not answer) ─► n1 | n2 | n3
//!                                                                          leader: SIGKILL
//! ```
//!
//! Readings are posted ten times a second. Some seconds in, the leader is killed without a word of warning; the
//! others elect a new one; later the killed node is started again on its data. In the end every node is
//! asked for what it has: all that was posted must be there, by each node's account.

mod nodes;

use std::io::{self, Write};
use std::time::Duration;

use chronos_env::Env;
use indicatif::HumanCount;
use tokio::sync::watch;

use super::feed::Feed;
use super::site::{Reading, Site, Story};
use super::{bar, listen_for_interrupt};
use crate::cli::args::DemoArgs;
use crate::cli::error::CliError;
use crate::cli::output::one_line;
use crate::cli::wire::{Session, Target};
use nodes::Nodes;

/// Between two rounds of readings.
const TICK: Duration = Duration::from_millis(100);
const NANOS_PER_MILLI: u64 = 1_000_000;

/// Devices whose readings are not complete: each numbers its messages from 1, so the last number is their count.
const INCOMPLETE: &str = "SELECT count(*) FROM (\n  \
     SELECT device_id, metric, count(*) AS readings, max(seq) AS last FROM readings GROUP BY 1, 2\n\
     ) AS series WHERE readings <> last";
/// All rows.
const COUNT: &str = "SELECT count(*) FROM readings";

/// Runs it.
pub(super) async fn run(args: DemoArgs, count: u8, env: &Env) -> Result<(), CliError> {
    let mut stop = listen_for_interrupt();
    let mut nodes = Nodes::start(usize::from(count), env)?;
    let leader = nodes.leader(None).await?;
    let timeout = leader.election_timeout_ms;
    say(&format!(
        "{count} nodes run, as processes on this machine; {} leads (election timeout {timeout} ms).",
        leader.name
    ))?;
    let feed = Feed::to_any(&nodes.urls(), env)?;
    let never = Story {
        fault_from: u64::MAX,
        offline_from: u64::MAX,
        wrong_at: u64::MAX,
    };
    let mut site = Site::new(args.devices, env.random.u64(), never);
    let posted = post(
        &mut nodes,
        &mut site,
        &feed,
        args.seconds.max(5),
        env,
        &mut stop,
    )
    .await?;
    report(&posted, &feed, timeout)?;
    let missing = compare(&nodes, feed.counts().rows).await?;
    match missing {
        0 => Ok(say("No reading is missing.")?),
        1 => Err(CliError::Failed(
            "one node does not have all readings".into(),
        )),
        some => Err(CliError::Failed(format!(
            "{some} nodes do not have all readings"
        ))),
    }
}

/// What happened while readings were posted.
struct Posted {
    killed: String,
    leader: String,
    /// The longest time without an accepted message, from the kill on.
    pause_ms: u64,
    /// The same before it: the pace of the posts themselves.
    before_ms: u64,
}

/// Posts until the time is over, with the leader's death in between.
async fn post(
    nodes: &mut Nodes,
    site: &mut Site,
    feed: &Feed,
    seconds: u64,
    env: &Env,
    stop: &mut watch::Receiver<bool>,
) -> Result<Posted, CliError> {
    let now_ms = || env.clock.monotonic_nanos() / NANOS_PER_MILLI;
    let begun = now_ms();
    let (kill_at, restart_at, end_at) = (seconds * 400, seconds * 700, seconds * 1000);
    let mut posted = Posted {
        killed: String::new(),
        leader: String::new(),
        pause_ms: 0,
        before_ms: 0,
    };
    let mut last = begun;
    let mut is_back = false;
    let bar = bar(end_at, "{spinner} {msg}");
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Stopped early, what is left to do is done all the same: the leader dies, and comes back.
    while now_ms() - begun < end_at && !*stop.borrow() || !is_back {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.changed() => {}
        }
        let at = if *stop.borrow() {
            end_at
        } else {
            now_ms() - begun
        };
        if posted.killed.is_empty() && at >= kill_at {
            let leader = nodes.leader(None).await?;
            nodes.kill(&leader.name)?;
            bar.suspend(|| say(&format!("{} is killed (SIGKILL).", leader.name)))?;
            (posted.killed, last) = (leader.name, now_ms());
        } else if !posted.killed.is_empty() && !is_back && at >= restart_at {
            let leader = nodes.leader(Some(&posted.killed)).await?;
            bar.suspend(|| {
                say(&format!(
                    "{} leads; {} is started again.",
                    leader.name, posted.killed
                ))
            })?;
            nodes.restart(&posted.killed)?;
            (posted.leader, is_back) = (leader.name, true);
        }
        let now = env.clock.now_micros();
        let readings: Vec<Reading> = (0..site.len()).map(|nth| site.read(nth, now)).collect();
        feed.post(&readings).await?;
        let gap = now_ms() - last;
        last = now_ms();
        let longest = match posted.killed.is_empty() {
            true => &mut posted.before_ms,
            false => &mut posted.pause_ms,
        };
        *longest = gap.max(*longest);
        bar.set_message(format!("{} rows accepted", HumanCount(feed.counts().rows)));
    }
    bar.finish_and_clear();
    Ok(posted)
}

fn report(posted: &Posted, feed: &Feed, timeout_ms: u64) -> io::Result<()> {
    let counts = feed.counts();
    say(&format!(
        "{} rows accepted in {} messages, {} sent again.",
        HumanCount(counts.rows),
        HumanCount(counts.posts),
        HumanCount(counts.retries),
    ))?;
    say(&format!(
        "After {} was killed nothing was accepted for {} ms, {:.1} election timeouts; {} took over. Before, the longest time \
         between two messages was {} ms.",
        posted.killed,
        posted.pause_ms,
        posted.pause_ms as f64 / timeout_ms.max(1) as f64,
        posted.leader,
        posted.before_ms,
    ))
}

/// Asks each node for what it has; how many have not all of it.
async fn compare(nodes: &Nodes, accepted: u64) -> Result<usize, CliError> {
    say(&format!("\n{COUNT};\n{INCOMPLETE};"))?;
    let mut wrong = 0;
    for (name, url) in nodes.pg_urls() {
        let mut session = Session::connect(&Target::parse(&url)?).await?;
        let rows = number(&mut session, COUNT).await?;
        let incomplete = number(&mut session, INCOMPLETE).await?;
        session.close().await;
        say(&format!(
            "  {name}: {} rows, {incomplete} series incomplete",
            HumanCount(rows)
        ))?;
        wrong += usize::from(rows != accepted || incomplete != 0);
    }
    Ok(wrong)
}

/// The one number that a query answers.
async fn number(session: &mut Session, sql: &str) -> Result<u64, CliError> {
    let failed = |reason: &str| CliError::Failed(format!("{}: {reason}", one_line(sql)));
    let result = session
        .query(sql)
        .await
        .map_err(|error| failed(&error.to_string()))?;
    let cell = result.rows.into_iter().flatten().flatten().next();
    let number = cell.and_then(|text| text.parse().ok());
    number.ok_or_else(|| failed("it gave no number"))
}

fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}
