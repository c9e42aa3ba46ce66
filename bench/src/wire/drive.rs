//! Runs a load from one client, or from many in one thread.
//!
//! Each client has one operation under way at any time (a closed loop). Many clients are many
//! sockets in one epoll set: a thread per client would make the scheduler part of the result.
//!
//! ```text
//! per client:  next parameters ─▶ one write ─▶ server ─▶ read, scan ─▶ ready? ─▶ latency, again
//! ```

use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::Timespec;

use super::message::{self, Reply};
use super::{Connection, Target, REPLY_WITHIN};
use crate::data::Random;
use crate::error::Result;
use crate::load::{Load, Protocol, Value};
use crate::sample::{Bound, Sample};

/// Runs `load` from `clients` connections of its own: a warm-up, then the measured phase.
pub(crate) fn run_load(
    target: &Target,
    load: &Load,
    clients: usize,
    warm_up: Bound,
    bound: Bound,
) -> Result<Sample> {
    let targets = vec![target; clients];
    run_load_at(&targets, load, warm_up, bound, &mut || {})
}

/// The same from one connection to each of `targets`; `begin` is called between the phases.
pub(crate) fn run_load_at(
    targets: &[&Target],
    load: &Load,
    warm_up: Bound,
    bound: Bound,
    begin: &mut dyn FnMut(),
) -> Result<Sample> {
    let mut driver = Driver::new(targets, load)?;
    driver.run(warm_up)?;
    begin();
    driver.run(bound)
}

/// One connection of a load, and when its operation was sent.
struct Client {
    connection: Connection,
    sent: Instant,
    reply: Reply,
}

struct Driver<'a> {
    load: &'a Load,
    clients: Vec<Client>,
    random: Random,
    values: Vec<Value>,
    buffer: String,
}

impl<'a> Driver<'a> {
    fn new(targets: &[&Target], load: &'a Load) -> Result<Driver<'a>> {
        let statement = load.statement(|out, n| {
            out.push('$');
            Value::Int(n as i64).write(out);
        });
        let open = |target: &&Target| {
            let mut connection = Connection::open(target)?;
            if load.protocol == Protocol::Prepared {
                connection.prepare(&statement)?;
            }
            Ok(Client {
                connection,
                sent: Instant::now(),
                reply: Reply::default(),
            })
        };
        let clients = targets.iter().map(open).collect::<Result<Vec<Client>>>()?;
        Ok(Driver {
            load,
            clients,
            random: Random::new(),
            values: Vec::new(),
            buffer: String::new(),
        })
    }

    /// One phase; afterwards no operation is under way.
    fn run(&mut self, bound: Bound) -> Result<Sample> {
        let start = Instant::now();
        let mut sample = Sample::default();
        match self.clients.len() {
            1 => self.run_one(bound, start, &mut sample)?,
            _ => self.run_many(bound, start, &mut sample)?,
        }
        sample.finish(start.elapsed());
        Ok(sample)
    }

    /// One client waits in `read`: no epoll, as a driver with one connection would not either.
    fn run_one(&mut self, bound: Bound, start: Instant, sample: &mut Sample) -> Result<()> {
        while bound.allows(sample.count(), start) {
            self.send(0)?;
            let client = &mut self.clients[0];
            while !client.connection.scan(&mut client.reply)? {
                client.connection.wait()?;
            }
            self.complete(0, sample)?;
        }
        Ok(())
    }

    fn run_many(&mut self, bound: Bound, start: Instant, sample: &mut Sample) -> Result<()> {
        let set = epoll::create(CreateFlags::CLOEXEC)?;
        for (index, client) in self.clients.iter().enumerate() {
            client.connection.stream.set_nonblocking(true)?;
            epoll::add(
                &set,
                &client.connection.stream,
                EventData::new_u64(index as u64),
                EventFlags::IN,
            )?;
        }
        let wait = Timespec {
            tv_sec: REPLY_WITHIN.as_secs() as i64,
            tv_nsec: 0,
        };
        let mut events = Vec::with_capacity(self.clients.len());
        let (mut begun, mut under_way) = (0, 0);
        for index in 0..self.clients.len() {
            self.send(index)?;
            begun += 1;
            under_way += 1;
        }
        while under_way > 0 {
            events.clear();
            if epoll::wait(&set, spare_capacity(&mut events), Some(&wait))? == 0 {
                return Err(format!("no reply for {REPLY_WITHIN:?}").into());
            }
            for event in &events {
                let index = event.data.u64() as usize;
                let client = &mut self.clients[index];
                if !client.connection.fill()? || !client.connection.scan(&mut client.reply)? {
                    continue;
                }
                self.complete(index, sample)?;
                under_way -= 1;
                if bound.allows(begun, start) {
                    self.send(index)?;
                    begun += 1;
                    under_way += 1;
                }
            }
        }
        for client in &self.clients {
            client.connection.stream.set_nonblocking(false)?;
        }
        Ok(())
    }

    /// Sends a client's next operation in one write.
    fn send(&mut self, index: usize) -> Result<()> {
        self.load.next(&mut self.random, &mut self.values);
        let client = &mut self.clients[index];
        let out = &mut client.connection.output;
        match self.load.protocol {
            Protocol::Prepared => message::execute(out, &self.values, &mut self.buffer),
            Protocol::Simple => {
                self.buffer.clear();
                self.load.literal(&self.values, &mut self.buffer);
                message::query(out, &self.buffer);
            }
        }
        client.sent = Instant::now();
        client.connection.send()
    }

    /// An operation's reply is complete: counts it, if it is the right one.
    fn complete(&mut self, index: usize, sample: &mut Sample) -> Result<()> {
        let client = &mut self.clients[index];
        let latency: Duration = client.sent.elapsed();
        let reply = std::mem::take(&mut client.reply);
        if let Some(error) = reply.error {
            return Err(error.into());
        }
        if reply.affected != self.load.answer() {
            return Err(format!(
                "{} rows answered instead of {}",
                reply.affected,
                self.load.answer()
            )
            .into());
        }
        sample.add(latency);
        Ok(())
    }
}
