//! etcd's clients: calls over gRPC, and a load from many of them in one thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use prost::Message;
use tokio::runtime::Runtime;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::api::{
    PutRequest, PutResponse, RangeRequest, RangeResponse, Request, RequestOp, TxnRequest,
    TxnResponse, PUT, RANGE, TXN,
};
use crate::cluster::Phase;
use crate::data::Random;
use crate::error::{Error, Result};
use crate::load::{Load, Operation, Value};
use crate::sample::{Bound, Sample};

/// Longest wait for one answer.
const REPLY_WITHIN: Duration = Duration::from_secs(60);

/// Clients that share a connection: gRPC has many calls on one, as etcd's own client does. With a connection for each
/// of 256 clients etcd does about half as much.
const CLIENTS_PER_CONNECTION: usize = 64;

/// The runtime on which clients run: one thread, like the other protocol's.
pub(super) fn runtime() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder
        .enable_all()
        .build()
        .map_err(|error| error.to_string().into())
}

/// Connects when it is first used.
pub(super) fn channel(port: u16) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))
        .map_err(|error| error.to_string())?;
    Ok(endpoint
        .tcp_nodelay(true)
        .timeout(REPLY_WITHIN)
        .connect_lazy())
}

/// One call.
pub(super) async fn call<Q, A>(channel: &Channel, path: &'static str, request: Q) -> Result<A>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let failed = |error: &dyn std::fmt::Display| Error::from(format!("{path}: {error}"));
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| failed(&error))?;
    let path_and_query = ::http::uri::PathAndQuery::from_static(path);
    let codec = ProstCodec::<Q, A>::default();
    let answer = grpc
        .unary(tonic::Request::new(request), path_and_query, codec)
        .await;
    match answer {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) => Err(failed(&status.message())),
    }
}

/// Runs a phase against members whose clients' ports are `ports`.
pub(super) fn run_load(
    runtime: &Runtime,
    ports: &[u16],
    phase: &Phase<'_>,
    begin: &mut dyn FnMut(),
) -> Result<Sample> {
    let local = tokio::task::LocalSet::new();
    local.block_on(runtime, async {
        let channels = connections(ports, &phase.clients)?;
        run(phase.load, &channels, phase.warm_up).await?;
        begin();
        run(phase.load, &channels, phase.bound).await
    })
}

/// A channel for each client, some of them the same.
fn connections(ports: &[u16], clients: &[usize]) -> Result<Vec<Channel>> {
    let mut open: Vec<(usize, Channel)> = ports
        .iter()
        .map(|&port| Ok((0, channel(port)?)))
        .collect::<Result<_>>()?;
    let client = |&member: &usize| {
        let (users, shared) = &mut open[member];
        if *users == CLIENTS_PER_CONNECTION {
            (*users, *shared) = (0, channel(ports[member])?);
        }
        *users += 1;
        Ok(shared.clone())
    };
    clients.iter().map(client).collect()
}

/// What the clients of a phase share.
struct Shared {
    bound: Bound,
    start: Instant,
    begun: Cell<u64>,
    random: RefCell<Random>,
    sample: RefCell<Sample>,
}

async fn run(load: &Load, channels: &[Channel], bound: Bound) -> Result<Sample> {
    let shared = Rc::new(Shared {
        bound,
        start: Instant::now(),
        begun: Cell::new(0),
        random: RefCell::new(Random::new()),
        sample: RefCell::new(Sample::default()),
    });
    let clients = channels
        .iter()
        .map(|channel| client(load, channel.clone(), Rc::clone(&shared)));
    futures::future::try_join_all(clients).await?;
    let mut sample = shared.sample.borrow_mut();
    sample.finish(shared.start.elapsed());
    Ok(sample.clone())
}

/// One client: an operation under way at any time.
async fn client(load: &Load, channel: Channel, shared: Rc<Shared>) -> Result<()> {
    let mut values = Vec::new();
    while shared.bound.allows(shared.begun.get(), shared.start) {
        shared.begun.set(shared.begun.get() + 1);
        load.next(&mut shared.random.borrow_mut(), &mut values);
        let sent = Instant::now();
        operate(load, &channel, &values).await?;
        shared.sample.borrow_mut().add(sent.elapsed());
    }
    Ok(())
}

async fn operate(load: &Load, channel: &Channel, values: &[Value]) -> Result<()> {
    match load.operation {
        Operation::GetPair => {
            let request = RangeRequest {
                key: key(values[0]),
                range_end: Vec::new(),
                count_only: false,
            };
            let answer: RangeResponse = call(channel, RANGE, request).await?;
            match answer.kvs.len() {
                1 => Ok(()),
                pairs => Err(format!("{pairs} pairs answered instead of 1").into()),
            }
        }
        Operation::PutPairs { pairs: 1 } | Operation::ReplacePair => {
            let _: PutResponse = call(channel, PUT, put(values)).await?;
            Ok(())
        }
        _ => {
            let op = |pair| RequestOp {
                request: Some(Request::Put(put(pair))),
            };
            let success = values.chunks_exact(2).map(op).collect();
            let answer: TxnResponse = call(channel, TXN, TxnRequest { success }).await?;
            match answer.succeeded {
                true => Ok(()),
                false => Err("a transaction without conditions did not succeed".into()),
            }
        }
    }
}

fn put(pair: &[Value]) -> PutRequest {
    let mut value = String::new();
    pair[1].write(&mut value);
    PutRequest {
        key: key(pair[0]),
        value: value.into_bytes(),
    }
}

/// Eight bytes, as Chronos keeps the number.
fn key(value: Value) -> Vec<u8> {
    match value {
        Value::Int(number) => number.to_be_bytes().to_vec(),
        _ => Vec::new(),
    }
}
