//! `chronos demo`: a farm's sensors post to a node, then queries show what it keeps.
//!
//! ```text
//!   site (what is measured) ─► feed (POST /ingest, retries) ─► node
//!                                                               │
//!   queries (SQL, printed with results) ◄───────────────────────┘
//! ```
//!
//! Three acts: history is posted as fast as the node takes it; live readings follow,
//! once a second, while a probe is offline and later sends its backlog; then queries,
//! a correction among them, run over the node's PostgreSQL port. With `--nodes` there is another
//! story, of a cluster: [`cluster`].

mod cluster;
mod feed;
mod queries;
mod site;

use std::io::{self, Write};
use std::time::Duration;

use chronos_env::Env;
use futures::stream::{self, StreamExt, TryStreamExt};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use tokio::sync::watch;

use super::args::DemoArgs;
use super::error::CliError;
use super::http::Client;
use super::security::basic;
use super::wire::{Session, Target};
use feed::{Counts, Feed};
use queries::{Shown, WrongReading};
use site::{Reading, Site, Story, SECOND};

/// Microseconds between two readings of a device in the history.
const HISTORY_STEP: u64 = 60 * SECOND;
/// Readings per message.
const READINGS_PER_POST: usize = 400;
/// Messages under way at once.
const POSTS_AT_ONCE: usize = 4;
/// Live seconds after which the offline probe is back, when the live part is open-ended.
const BACKLOG_AFTER_SECS: u64 = 10;
/// Exit code after Ctrl-C before there is anything to show.
const INTERRUPTED: u8 = 130;

/// Runs the demo.
pub(crate) async fn run(args: DemoArgs, env: &Env) -> Result<(), CliError> {
    if let Some(count) = args.nodes {
        return cluster::run(args, count, env).await;
    }
    let target = Target::parse(&args.pg_url)?.with_login(&args.login.login)?;
    let password = target.password.as_deref();
    let authorization = password.map(|password| basic(&target.user, password));
    let client = Client::by(&args.login).with_authorization(authorization);
    let feed = Feed::new(&args.url, client, env)?;
    feed.check().await?;
    let mut session = Session::connect(&target).await?;
    let mut stop = listen_for_interrupt();

    let now = env.clock.now_micros() / SECOND * SECOND;
    let story = story(now);
    let mut site = Site::new(args.devices, env.random.u64(), story.clone());
    let (backlog, wrong) = post_history(&mut site, &feed, &args, env, now, &story, &stop).await?;

    let before_backlog = live(
        &mut site,
        &feed,
        &args,
        env,
        backlog,
        &mut session,
        &mut stop,
    )
    .await?;
    let counts = feed.counts();
    print_counts(&counts)?;
    show(&mut session, &site, before_backlog.as_deref(), wrong).await
}

/// The story's moments, all within the shortest history (one hour) before `now`.
fn story(now: u64) -> Story {
    let minutes_ago = |minutes: u64| now.saturating_sub(minutes * 60 * SECOND);
    Story {
        fault_from: minutes_ago(40),
        offline_from: minutes_ago(30),
        wrong_at: minutes_ago(20),
    }
}

/// Becomes true with the first Ctrl-C; a second one ends the program.
fn listen_for_interrupt() -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            let _ = sender.send(true);
        }
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(i32::from(INTERRUPTED));
        }
    });
    receiver
}

/// Act one. Returns what the offline probe could not send, and the wrong reading's key.
async fn post_history(
    site: &mut Site,
    feed: &Feed,
    args: &DemoArgs,
    env: &Env,
    now: u64,
    story: &Story,
    stop: &watch::Receiver<bool>,
) -> Result<(Vec<Reading>, Option<WrongReading>), CliError> {
    let steps = u64::from(args.history_hours) * 3600 * SECOND / HISTORY_STEP;
    writeln!(
        io::stdout(),
        "{} devices; posting {} hours of history to {} …",
        site.len(),
        args.history_hours,
        args.url,
    )?;
    let offline = site.offline_device().map(str::to_owned);
    let greenhouse = site.wrong_greenhouse().map(str::to_owned);
    let started = env.clock.monotonic_nanos();
    let bar = bar(steps, "{bar:30} {msg}");
    let (mut backlog, mut wrong, mut pending) = (Vec::new(), None, Vec::new());
    for step in 0..steps {
        if *stop.borrow() {
            bar.finish_and_clear();
            return Err(CliError::Reported(INTERRUPTED));
        }
        // The last step is `now`: live readings go on from there.
        let at = now - (steps - 1 - step) * HISTORY_STEP;
        for nth in 0..site.len() {
            let reading = site.read(nth, at);
            if at == story.wrong_at && greenhouse.as_ref() == Some(&reading.device_id) {
                wrong = Some(WrongReading {
                    device_id: reading.device_id.clone(),
                    ts_micros: at,
                    seq: reading.seq,
                });
            }
            if at >= story.offline_from && offline.as_ref() == Some(&reading.device_id) {
                backlog.push(reading);
            } else {
                pending.push(reading);
            }
        }
        if pending.len() >= READINGS_PER_POST * POSTS_AT_ONCE || step + 1 == steps {
            post_all(feed, &pending).await?;
            pending.clear();
            bar.set_position(step + 1);
            bar.set_message(format!("{} rows", HumanCount(feed.counts().rows)));
        }
    }
    bar.finish_and_clear();
    let seconds = env.clock.monotonic_nanos().saturating_sub(started) as f64 / 1e9;
    let rows = feed.counts().rows;
    writeln!(
        io::stdout(),
        "{} rows accepted in {seconds:.1} s ({} rows/s).",
        HumanCount(rows),
        HumanCount((rows as f64 / seconds.max(1e-3)) as u64),
    )?;
    Ok((backlog, wrong))
}

/// Posts readings, several messages at once.
async fn post_all(feed: &Feed, readings: &[Reading]) -> Result<(), CliError> {
    stream::iter(
        readings
            .chunks(READINGS_PER_POST)
            .map(|chunk| feed.post(chunk)),
    )
    .buffer_unordered(POSTS_AT_ONCE)
    .try_collect::<Vec<()>>()
    .await?;
    Ok(())
}

/// Act two. Returns the node's time just before the backlog was sent.
async fn live(
    site: &mut Site,
    feed: &Feed,
    args: &DemoArgs,
    env: &Env,
    mut backlog: Vec<Reading>,
    session: &mut Session,
    stop: &mut watch::Receiver<bool>,
) -> Result<Option<String>, CliError> {
    let backlog_at = match args.seconds {
        0 => BACKLOG_AFTER_SECS,
        seconds => seconds * 6 / 10,
    };
    writeln!(io::stdout(), "{}", live_text(args.seconds))?;
    let offline = site.offline_device().map(str::to_owned);
    let bar = bar(args.seconds, "{spinner} {msg}");
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut before_backlog = None;
    let mut second = 0;
    while args.seconds == 0 || second < args.seconds {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.changed() => break,
        }
        second += 1;
        let now = env.clock.now_micros();
        let mut readings: Vec<Reading> = (0..site.len()).map(|nth| site.read(nth, now)).collect();
        if before_backlog.is_none() {
            let away = |reading: &Reading| offline.as_ref() == Some(&reading.device_id);
            backlog.extend(readings.extract_if(.., |reading| away(reading)));
        }
        post_all(feed, &readings).await?;
        if second > backlog_at && before_backlog.is_none() {
            before_backlog = Some(send_backlog(feed, session, &mut backlog).await?);
        }
        let rows = HumanCount(feed.counts().rows);
        bar.set_message(format!("live for {second} s, {rows} rows accepted"));
    }
    if before_backlog.is_none() {
        before_backlog = Some(send_backlog(feed, session, &mut backlog).await?);
    }
    bar.finish_and_clear();
    Ok(before_backlog.filter(|_| offline.is_some()))
}

/// The probe is back: everything it could not send arrives at once, late.
async fn send_backlog(
    feed: &Feed,
    session: &mut Session,
    backlog: &mut Vec<Reading>,
) -> Result<String, CliError> {
    let before = queries::node_time(session).await?;
    post_all(feed, backlog).await?;
    backlog.clear();
    Ok(before)
}

fn live_text(seconds: u64) -> String {
    match seconds {
        0 => "Posting live readings until Ctrl-C …".to_owned(),
        seconds => format!("Posting live readings for {seconds} s …"),
    }
}

fn print_counts(counts: &Counts) -> io::Result<()> {
    writeln!(
        io::stdout(),
        "{} rows accepted in {} messages, {} sent again.",
        HumanCount(counts.rows),
        HumanCount(counts.posts),
        HumanCount(counts.retries),
    )
}

/// Act three.
async fn show(
    session: &mut Session,
    site: &Site,
    before_backlog: Option<&str>,
    wrong: Option<WrongReading>,
) -> Result<(), CliError> {
    let mut shown = Shown::new();
    for query in queries::current(site.failing_pump()) {
        shown.show(session, &query).await?;
    }
    if let (Some(device), Some(before)) = (site.offline_device(), before_backlog) {
        for query in queries::backlog(device, before) {
            shown.show(session, &query).await?;
        }
    }
    if let Some(wrong) = wrong {
        let before = queries::node_time(session).await?;
        shown.show(session, &queries::correction(&wrong)).await?;
        for query in queries::corrected(&wrong, &before) {
            shown.show(session, &query).await?;
        }
    }
    match shown.failures {
        0 => Ok(()),
        1 => Err(CliError::Failed("one query failed".into())),
        failures => Err(CliError::Failed(format!("{failures} queries failed"))),
    }
}

fn bar(length: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸─"));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_story_fits_the_shortest_history_and_its_steps() {
        let now = 1_704_067_200_000_000;
        let story = story(now);
        let shortest = now - 3600 * SECOND + HISTORY_STEP;
        for moment in [story.fault_from, story.offline_from, story.wrong_at] {
            assert!(moment >= shortest && moment < now);
            assert_eq!((now - moment) % HISTORY_STEP, 0);
        }
    }
}
