//! `chronos admin check --cluster`: whether nodes hold the same, table by table.
//!
//! Which nodes: those that are named, or, if none or one is, all members of a cluster. Every node is asked
//! where it stands; then all at once for hashes of their content as of the stamp that all have reached,
//! and whether their indexes have what their tables ask for. A difference that may come of a commit in
//! between is asked for again. Who cannot be asked is named, and the others are compared. Exit code 1: there
//! is a difference; 2: there is none among those that were asked, and not all were.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::time::Duration;

use chronos_node::cluster::{ClusterStatus, MemberStatus, NodeNumber};
use chronos_node::{NodeHashes, NodePosition, TableHash};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::args::AdminCheckArgs;
use super::cluster::http_of;
use super::error::CliError;
use super::http::Client;
use super::values::HttpUrl;

/// Retention is reckoned as of so long after the last commit of any node, so that commits while
/// the nodes hash make no difference.
const AHEAD_MICROS: u64 = 10 * 60 * 1_000_000;
/// How often nodes are asked while what they say may come of commits in between.
const ROUNDS: usize = 3;
/// How long a node may take to say where it stands.
const POSITION_WAIT: Duration = Duration::from_secs(5);
/// And to read everything that it stores.
const HASHES_WAIT: Duration = Duration::from_secs(2 * 60 * 60);

/// Exit codes.
const DIFFERENT: u8 = 1;
const INCOMPLETE: u8 = 2;

/// Asks the nodes and prints what differs.
pub(super) async fn run(args: &AdminCheckArgs) -> Result<(), CliError> {
    let client = Client::of(&args.login)?;
    let mut nodes = Nodes::new(&client, &args.urls).await?;
    let mut round = 1;
    let (answers, compared) = loop {
        let answers = nodes.ask().await;
        let compared = compare(&answers);
        let stand_alike = answers.windows(2).all(|two| {
            let position = |node: &Node| node.hashes.position.index;
            position(&two[0]) == position(&two[1])
        });
        let is_done = compared.differences.is_empty() && compared.left_out.is_empty();
        if is_done || stand_alike || round == ROUNDS {
            break (answers, compared);
        }
        round += 1;
    };
    let missing = &nodes.missing;
    let mut out = io::stdout().lock();
    match args.json {
        true => writeln!(out, "{}", document(&answers, missing, &compared))?,
        false => print(&answers, missing, &compared, &mut out)?,
    }
    match (compared.differences.is_empty(), missing.is_empty()) {
        (true, true) => Ok(()),
        (true, false) => Err(CliError::Reported(INCOMPLETE)),
        (false, _) => Err(CliError::Reported(DIFFERENT)),
    }
}

/// A node that is to be compared: its name, or else its URL, and where it is asked.
struct Place {
    name: String,
    url: HttpUrl,
    /// Who must be there, if it is a member that others name.
    number: Option<NodeNumber>,
}

/// A node that cannot be, and why.
struct Missing {
    place: Place,
    reason: String,
}

/// What a node said.
#[derive(Debug)]
struct Node {
    name: String,
    url: String,
    hashes: NodeHashes,
}

/// The nodes that are compared.
struct Nodes<'a> {
    client: &'a Client,
    places: Vec<Place>,
    missing: Vec<Missing>,
}

impl<'a> Nodes<'a> {
    /// Those that are named, or all members of the cluster to which the one that is belongs; else the
    /// one on this machine.
    async fn new(client: &'a Client, urls: &[HttpUrl]) -> Result<Nodes<'a>, CliError> {
        let places = match urls {
            [] => members(client, &HttpUrl::habitual()).await?,
            [one] => members(client, one).await?,
            several => several.iter().map(Place::at).collect(),
        };
        let mut nodes = Nodes {
            client,
            places,
            missing: Vec::new(),
        };
        nodes.identify().await;
        Ok(nodes)
    }

    /// Leaves out whoever is not the member that it is taken for: one that listens on loopback only, say,
    /// tells others an address by which they find themselves.
    async fn identify(&mut self) {
        let answers: Vec<ClusterStatus> = self.answers("/cluster", POSITION_WAIT).await;
        for (place, status) in std::mem::take(&mut self.places).into_iter().zip(answers) {
            match place.number.is_none_or(|number| number == status.number) {
                true => self.places.push(place),
                false => {
                    let reason = format!("{} is \"{}\"", place.url, status.node_id);
                    self.missing.push(Missing { place, reason });
                }
            }
        }
    }

    /// The hashes of all that can be asked.
    async fn ask(&mut self) -> Vec<Node> {
        let positions: Vec<NodePosition> = self.answers("/admin/position", POSITION_WAIT).await;
        let stamps = || positions.iter().map(|position| position.stamp);
        let at = stamps().min().unwrap_or(0);
        let last = chronos_model::Stamp(stamps().max().unwrap_or(0)).micros() as u64;
        let retained_at = chronos_model::Stamp::from_micros(last + AHEAD_MICROS).0;
        let path = format!("/admin/hashes?at={at}&retained_at={retained_at}");
        let hashes: Vec<NodeHashes> = self.answers(&path, HASHES_WAIT).await;
        let places = self.places.iter();
        places
            .zip(hashes)
            .map(|(place, hashes)| Node {
                name: place.name.clone(),
                url: place.url.to_string(),
                hashes,
            })
            .collect()
    }

    /// What each answers, in their order. Who does not is missing from then on.
    async fn answers<T: DeserializeOwned>(&mut self, path: &str, within: Duration) -> Vec<T> {
        let asked = self.places.iter();
        let asked = asked.map(|place| get(self.client, &place.url, path, within));
        let outcomes = futures::future::join_all(asked).await;
        let mut answers = Vec::new();
        for (place, outcome) in std::mem::take(&mut self.places).into_iter().zip(outcomes) {
            match outcome {
                Ok(answer) => {
                    self.places.push(place);
                    answers.push(answer);
                }
                Err(error) => self.missing.push(Missing {
                    place,
                    reason: error.to_string(),
                }),
            }
        }
        answers
    }
}

impl Place {
    fn at(url: &HttpUrl) -> Place {
        Place {
            name: url.to_string(),
            url: url.clone(),
            number: None,
        }
    }
}

/// The members of the cluster that a node belongs to; the node itself by the address that it was
/// asked at.
async fn members(client: &Client, url: &HttpUrl) -> Result<Vec<Place>, CliError> {
    let status = get(client, url, "/cluster", POSITION_WAIT).await;
    let status: ClusterStatus = status.map_err(|error| match error {
        CliError::Connect { reason, .. } => url.unreachable_member(reason),
        other => other,
    })?;
    let member = |m: &MemberStatus| {
        Ok(Place {
            name: m.id.clone(),
            number: Some(m.number),
            url: match m.number == status.number {
                true => url.clone(),
                false => http_of(url, m)?,
            },
        })
    };
    status.members.iter().map(member).collect()
}

async fn get<T: DeserializeOwned>(
    client: &Client,
    url: &HttpUrl,
    path: &str,
    within: Duration,
) -> Result<T, CliError> {
    let uri = url.path(path)?;
    let asking = async {
        let stream = client.get_stream(&uri).await;
        let mut stream = stream.map_err(|reason| url.unreachable(reason))?;
        if let Some(error) = stream.error().await.map_err(CliError::Lost)? {
            return Err(CliError::Usage(format!("{url} answers: {error}")));
        }
        let answer = stream.whole().await.map_err(CliError::Lost)?;
        serde_json::from_slice(&answer)
            .map_err(|_| CliError::Usage(format!("{url} is no node that can be compared")))
    };
    match tokio::time::timeout(within, asking).await {
        Ok(answer) => answer,
        Err(_) => Err(url.unreachable(format!("no answer within {within:?}"))),
    }
}

/// What a comparison found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Compared {
    /// Of which table, and how. The catalog has no name.
    differences: Vec<(String, String)>,
    /// Tables that commits in between kept from being compared.
    left_out: Vec<String>,
    tables: usize,
    /// Of any one node.
    indexes: usize,
}

/// Compares every node with the first, and the indexes of each with its tables.
fn compare(nodes: &[Node]) -> Compared {
    let mut compared = Compared::default();
    let Some((first, others)) = nodes.split_first() else {
        return compared;
    };
    let mut ids: BTreeMap<u32, String> = BTreeMap::new();
    for table in nodes.iter().flat_map(|node| &node.hashes.tables) {
        ids.entry(table.id).or_insert_with(|| table.name.clone());
    }
    compared.tables = ids.len();
    let indexes = nodes.iter().map(|node| node.hashes.indexes.len());
    compared.indexes = indexes.max().unwrap_or(0);
    for node in nodes {
        let lacking = node.hashes.indexes.iter().filter(|i| i.missing > 0);
        compared.differences.extend(lacking.map(|index| {
            let how = format!(
                "{}: the index \"{}\" lacks {} of {} entries",
                node.name, index.name, index.missing, index.entries
            );
            (index.table.clone(), how)
        }));
    }
    for other in others {
        let stand_alike = other.hashes.position.index == first.hashes.position.index;
        if stand_alike && other.hashes.catalog != first.hashes.catalog {
            let how = format!("{} and {}: the catalog", first.name, other.name);
            compared.differences.push((String::new(), how));
        }
        for (id, name) in &ids {
            let of = |node: &Node| -> Option<TableHash> {
                let mut tables = node.hashes.tables.iter();
                tables.find(|table| table.id == *id).cloned()
            };
            match difference(of(first), of(other), stand_alike) {
                Difference::None => {}
                Difference::LeftOut => compared.left_out.push(name.clone()),
                Difference::Is(how) => {
                    let how = format!("{} and {}: {how}", first.name, other.name);
                    compared.differences.push((name.clone(), how));
                }
            }
        }
    }
    compared.left_out.sort_unstable();
    compared.left_out.dedup();
    compared
}

enum Difference {
    None,
    LeftOut,
    Is(String),
}

/// How a table differs between two nodes, which stand at the same entry or do not.
fn difference(one: Option<TableHash>, other: Option<TableHash>, stand_alike: bool) -> Difference {
    let (one, other) = match (one, other) {
        (Some(one), Some(other)) => (one, other),
        _ if stand_alike => return Difference::Is("only one has the table".to_owned()),
        _ => return Difference::LeftOut,
    };
    if one.schema != other.schema {
        return match stand_alike {
            true => Difference::Is("its definition".to_owned()),
            false => Difference::LeftOut,
        };
    }
    match (&one.hash, &other.hash) {
        (Some(a), Some(b)) if a == b => Difference::None,
        (Some(_), Some(_)) if one.versions == other.versions => {
            Difference::Is(format!("other content of {} versions", one.versions))
        }
        (Some(_), Some(_)) => Difference::Is(format!(
            "{} versions and {} versions",
            one.versions, other.versions
        )),
        _ => Difference::LeftOut,
    }
}

fn print(
    nodes: &[Node],
    missing: &[Missing],
    compared: &Compared,
    out: &mut impl io::Write,
) -> io::Result<()> {
    for (table, how) in &compared.differences {
        match table.is_empty() {
            true => writeln!(out, "differs: {how}")?,
            false => writeln!(out, "table \"{table}\" differs: {how}")?,
        }
    }
    for table in &compared.left_out {
        writeln!(
            out,
            "table \"{table}\" was not compared: commits went on meanwhile"
        )?;
    }
    for Missing { place, reason } in missing {
        writeln!(out, "{} was not compared: {reason}", place.name)?;
    }
    let found = match compared.differences.len() {
        0 => "no difference".to_owned(),
        n => counted(n, "difference", "differences"),
    };
    let all = nodes.len() + missing.len();
    let (which, rest) = match missing.is_empty() {
        true => (String::new(), ""),
        false => (
            format!("{} of ", nodes.len()),
            "; the comparison is incomplete",
        ),
    };
    let tables = compared.tables - compared.left_out.len().min(compared.tables);
    writeln!(
        out,
        "{which}{}, {} and {} compared: {found}{rest}",
        counted(all, "node", "nodes"),
        counted(tables, "table", "tables"),
        counted(compared.indexes, "index", "indexes")
    )
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn document(nodes: &[Node], missing: &[Missing], compared: &Compared) -> serde_json::Value {
    let node = |node: &Node| json!({ "node": node.name, "url": node.url, "hashes": node.hashes });
    let absent = |m: &Missing| json!({ "node": m.place.name, "url": m.place.url.to_string(), "reason": m.reason });
    let difference = |(table, how): &(String, String)| json!({ "table": table, "difference": how });
    json!({
        "ok": compared.differences.is_empty() && missing.is_empty(),
        "differences": compared.differences.iter().map(difference).collect::<Vec<_>>(),
        "not_compared": compared.left_out,
        "nodes": nodes.iter().map(node).collect::<Vec<_>>(),
        "missing": missing.iter().map(absent).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use chronos_node::IndexCheck;

    use super::*;

    fn table(id: u32, schema: &str, hash: Option<&str>) -> TableHash {
        TableHash {
            id,
            name: format!("t{id}"),
            schema: schema.into(),
            versions: 3,
            hash: hash.map(Into::into),
        }
    }

    fn node(index: u64, catalog: &str, tables: Vec<TableHash>) -> Node {
        Node {
            name: format!("node at {index}"),
            url: "http://a:9000".into(),
            hashes: NodeHashes {
                position: NodePosition {
                    term: 1,
                    index,
                    stamp: 9,
                },
                at: 5,
                catalog: catalog.into(),
                tables,
                indexes: vec![IndexCheck {
                    name: "i".into(),
                    table: "t1".into(),
                    entries: 3,
                    missing: 0,
                }],
            },
        }
    }

    #[test]
    fn an_index_without_its_entries_is_a_difference_of_its_node() {
        let mut nodes = [7, 8].map(|index| node(index, "c", vec![]));
        assert_eq!(compare(&nodes).indexes, 1);
        assert!(compare(&nodes).differences.is_empty());
        nodes[1].hashes.indexes[0].missing = 2;
        let expected = "node at 8: the index \"i\" lacks 2 of 3 entries".to_owned();
        assert_eq!(compare(&nodes).differences, [("t1".to_owned(), expected)]);
    }

    #[test]
    fn content_is_compared_where_nothing_came_between() {
        let with = |index, hash| {
            let tables = vec![table(1, "s", Some("x")), table(2, "s", hash)];
            node(index, "c", tables)
        };
        let same = compare(&[with(7, Some("y")), with(7, Some("y")), with(9, Some("y"))]);
        assert_eq!(
            (same.differences.len(), same.left_out.len(), same.tables),
            (0, 0, 2)
        );
        let other = compare(&[with(7, Some("y")), with(7, Some("y")), with(9, Some("z"))]);
        let expected = "node at 7 and node at 9: other content of 3 versions".to_owned();
        assert_eq!(other.differences, [("t2".to_owned(), expected)]);
        let unknown = compare(&[with(7, Some("y")), with(9, None)]);
        assert_eq!(
            (unknown.differences.len(), unknown.left_out),
            (0, vec!["t2".into()])
        );
    }

    #[test]
    fn another_definition_is_a_difference_only_at_the_same_entry() {
        let with = |index, catalog, schema| node(index, catalog, vec![table(1, schema, Some("x"))]);
        let apart = compare(&[with(7, "c", "s"), with(8, "d", "r")]);
        assert_eq!(
            (apart.differences.len(), apart.left_out),
            (0, vec!["t1".into()])
        );
        let alike = compare(&[with(7, "c", "s"), with(7, "d", "r")]);
        assert_eq!(alike.differences.len(), 2, "{alike:?}");
        let missing = compare(&[with(7, "c", "s"), node(7, "c", vec![])]);
        assert_eq!(missing.differences.len(), 1, "{missing:?}");
    }

    #[test]
    fn who_is_missing_is_named_and_makes_the_comparison_incomplete() {
        let nodes = [7, 7].map(|index| node(index, "c", vec![]));
        let missing = [Missing {
            place: Place {
                name: "n3".into(),
                url: HttpUrl::habitual(),
                number: None,
            },
            reason: "it is gone".into(),
        }];
        let printed = |missing: &[Missing]| {
            let mut out = Vec::new();
            print(&nodes, missing, &compare(&nodes), &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            printed(&[]),
            "2 nodes, 0 tables and 1 index compared: no difference\n"
        );
        assert_eq!(
            printed(&missing),
            "n3 was not compared: it is gone\n2 of 3 nodes, 0 tables and 1 index compared: no difference; \
             the comparison is incomplete\n"
        );
        assert_eq!(document(&nodes, &[], &compare(&nodes))["ok"], true);
        let document = document(&nodes, &missing, &compare(&nodes));
        assert_eq!(document["ok"], false);
        assert_eq!(document["missing"][0]["node"], "n3");
    }
}
