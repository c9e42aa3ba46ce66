//! `chronos admin members|add|promote|remove|transfer-leader`: a cluster's members, over HTTP.

use std::io::{self, Write as _};

use bytes::Bytes;
use chronos_node::cluster::{ClusterStatus, MemberStatus, NodeRole, TransferStatus};
use indicatif::HumanBytes;
use serde_json::{json, Value};

use super::addresses::http_of;
use crate::cli::args::{AddArgs, ClusterUrlArgs, Format, MemberArgs, MembersArgs, TransferArgs};
use crate::cli::error::{tell, CliError};
use crate::cli::http::{Answer, Client};
use crate::cli::output::Printer;
use crate::cli::reply::{Column, Event, Kind};
use crate::cli::values::HttpUrl;

/// A cluster, by the HTTP address of one of its members.
struct Asked {
    client: Client,
    url: HttpUrl,
}

impl Asked {
    fn new(args: &ClusterUrlArgs) -> Result<Asked, CliError> {
        Ok(Asked {
            client: Client::of(&args.login)?,
            url: args.url.clone(),
        })
    }

    async fn status(&self) -> Result<ClusterStatus, CliError> {
        let answer = self.client.get(&self.url.path("/cluster")?).await;
        parsed(&answer.map_err(|reason| self.url.unreachable_member(reason))?)
    }

    /// Posts, and gives the cluster as it is then.
    async fn post(&self, path: &str, body: &Value) -> Result<ClusterStatus, CliError> {
        let body = Bytes::from(body.to_string());
        let answer = self.client.post_change(&self.url.path(path)?, body).await;
        parsed(&answer.map_err(|reason| self.url.unreachable_member(reason))?)
    }
}

fn parsed(answer: &Answer) -> Result<ClusterStatus, CliError> {
    if answer.status == 200 {
        return serde_json::from_slice(&answer.body)
            .map_err(|e| CliError::Failed(format!("the node's answer cannot be read: {e}")));
    }
    let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let text = |name: &str| document.pointer(&format!("/error/{name}"))?.as_str();
    let message = text("message").unwrap_or("the node gave no reason");
    let code = text("code").map(|code| format!(" ({code})"));
    let hint = text("hint").map(|hint| format!("\n{hint}"));
    Err(CliError::Failed(format!(
        "{message}{}{}",
        code.unwrap_or_default(),
        hint.unwrap_or_default()
    )))
}

/// `members`
pub(in crate::cli) async fn list(args: MembersArgs) -> Result<(), CliError> {
    let asked = Asked::new(&args.cluster)?;
    let status = of_leader(&asked, asked.status().await?).await;
    match args.json {
        true => writeln!(io::stdout(), "{}", json!(status))?,
        false => print(&status)?,
    }
    Ok(())
}

/// The cluster as its leader sees it, who knows how far each member is; else as it was seen.
async fn of_leader(asked: &Asked, seen: ClusterStatus) -> ClusterStatus {
    let leading = seen.members.iter().find(|m| Some(m.number) == seen.leader);
    let Some(leader) = leading.filter(|_| seen.role != "leader") else {
        return seen;
    };
    match leader_status(asked, leader).await {
        Ok(status) => status,
        Err(reason) => {
            tell(&format!(
                "chronos: how far each member is, is not known: the leader {} was not asked: {reason}",
                leader.id
            ));
            seen
        }
    }
}

async fn leader_status(asked: &Asked, leader: &MemberStatus) -> Result<ClusterStatus, String> {
    let url = http_of(&asked.url, leader).map_err(|e| e.to_string())?;
    let uri = url.path("/cluster").map_err(|e| e.to_string())?;
    let answer = asked.client.get(&uri).await;
    let answer = answer.map_err(|reason| format!("{url}: {reason}"))?;
    parsed(&answer).map_err(|e| format!("{url}: {e}"))
}

/// Has something done, and shows the cluster as it is then.
async fn change(args: &ClusterUrlArgs, path: &str, body: &Value) -> Result<(), CliError> {
    let asked = Asked::new(args)?;
    let status = asked.post(path, body).await?;
    print(&of_leader(&asked, status).await)
}

/// `add`
pub(in crate::cli) async fn add(args: AddArgs) -> Result<(), CliError> {
    let body = json!({
        "id": args.id,
        "addr": args.address.to_string(),
        "auto_promote": !args.learner,
    });
    change(&args.cluster, "/add-learner", &body).await
}

/// `promote`
pub(in crate::cli) async fn promote(args: MemberArgs) -> Result<(), CliError> {
    let asked = Asked::new(&args.cluster)?;
    let status = asked.status().await?;
    let is_it = |m: &&MemberStatus| m.id == args.id || m.number.to_string() == args.id;
    let Some(promoted) = status.members.iter().find(is_it) else {
        let known: Vec<&str> = status.members.iter().map(|m| m.id.as_str()).collect();
        return Err(CliError::Failed(format!(
            "\"{}\" is no member of the cluster\nMembers: {}.",
            args.id,
            known.join(", ")
        )));
    };
    let voters = status
        .members
        .iter()
        .filter(|m| m.role == NodeRole::Voter || m.number == promoted.number);
    let voters: Vec<u32> = voters.map(|m| m.number.0).collect();
    change(&args.cluster, "/change-membership", &json!(voters)).await
}

/// `remove`
pub(in crate::cli) async fn remove(args: MemberArgs) -> Result<(), CliError> {
    let body = json!({ "id": args.id });
    change(&args.cluster, "/remove", &body).await
}

/// `transfer-leader`
pub(in crate::cli) async fn transfer(args: TransferArgs) -> Result<(), CliError> {
    let body = match &args.id {
        Some(id) => json!({ "id": id }),
        None => json!({}),
    };
    change(&args.cluster, "/transfer-leader", &body).await
}

const COLUMNS: [(&str, Kind); 10] = [
    ("name", Kind::Text),
    ("number", Kind::Number),
    ("address", Kind::Text),
    ("http", Kind::Text),
    ("postgresql", Kind::Text),
    ("role", Kind::Text),
    ("leader", Kind::Text),
    ("matched", Kind::Number),
    ("lag", Kind::Number),
    ("heard", Kind::Text),
];

fn print(status: &ClusterStatus) -> Result<(), CliError> {
    let mut printer = Printer::stdout(Format::Table);
    let columns = COLUMNS.map(|(name, kind)| Column {
        name: name.to_owned(),
        kind,
    });
    printer.event(Event::Columns(&columns))?;
    for member in &status.members {
        let cells = cells(status, member);
        let cells: Vec<Option<&str>> = cells.iter().map(|cell| Some(cell.as_str())).collect();
        printer.event(Event::Row(&cells))?;
    }
    printer.event(Event::Complete(&format!("SELECT {}", status.members.len())))?;
    let leader = status.leader_id.as_deref().unwrap_or("no node");
    printer.say(&format!(
        "Cluster {}, term {}: {leader} leads; committed up to {}.",
        status.cluster_id, status.term, status.committed_index
    ))?;
    Ok(printer.flush()?)
}

fn cells(status: &ClusterStatus, member: &MemberStatus) -> [String; 10] {
    let leads = status.leader == Some(member.number);
    let role = match member.role {
        NodeRole::Voter => "voter",
        NodeRole::Learner => "learner",
    };
    let progress = member.progress.as_ref();
    // The leader is as far as it is itself.
    let is_own = leads && status.role == "leader";
    let matched = match is_own {
        true => Some(status.last_index),
        false => progress.map(|p| p.matched_index),
    };
    let lag = match is_own {
        true => Some(0),
        false => progress.map(|p| p.lag_entries),
    };
    let heard = progress.map(|p| match (&p.sending, p.heard_ms) {
        (Some(sending), _) => arriving(sending),
        (None, Some(ms)) => format!("{ms} ms ago"),
        (None, None) => "never".to_owned(),
    });
    let number = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
    [
        member.id.clone(),
        member.number.to_string(),
        member.address.clone(),
        member.clients.http.clone().unwrap_or_default(),
        member.clients.pg.clone().unwrap_or_default(),
        role.to_owned(),
        if leads { "leads" } else { "" }.to_owned(),
        number(matched),
        number(lag),
        heard.unwrap_or_default(),
    ]
}

fn arriving(sending: &TransferStatus) -> String {
    let (bytes, total) = (sending.bytes, sending.bytes_total);
    format!("checkpoint: {} of {}", HumanBytes(bytes), HumanBytes(total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronos_node::cluster::{ClientAddresses, FollowerStatus, NodeNumber};

    fn member(number: u32, progress: Option<FollowerStatus>) -> MemberStatus {
        MemberStatus {
            id: format!("n{number}"),
            number: NodeNumber(number),
            address: "a:1".into(),
            clients: ClientAddresses {
                http: (number == 1).then(|| "a:9000".into()),
                pg: (number == 1).then(|| "a:5433".into()),
            },
            role: NodeRole::Voter,
            progress,
        }
    }

    #[test]
    fn a_row_says_how_far_a_member_is() {
        let progress = FollowerStatus {
            matched_index: 8,
            lag_entries: 2,
            heard_ms: Some(7),
            round_trip_ms: None,
            sending: None,
        };
        let status = ClusterStatus {
            role: "leader".into(),
            number: NodeNumber(1),
            leader: Some(NodeNumber(1)),
            last_index: 10,
            members: vec![member(1, None), member(2, Some(progress))],
            ..ClusterStatus::default()
        };
        let row = |i: usize| cells(&status, &status.members[i]);
        let expected = [
            "n1", "1", "a:1", "a:9000", "a:5433", "voter", "leads", "10", "0", "",
        ];
        assert_eq!(row(0), expected);
        let expected = ["n2", "2", "a:1", "", "", "voter", "", "8", "2", "7 ms ago"];
        assert_eq!(row(1), expected);
    }

    #[test]
    fn an_error_is_told_in_the_nodes_words() {
        let answer = Answer {
            status: 404,
            retry_after_secs: None,
            body: Bytes::from_static(
                br#"{"error":{"code":"42704","message":"\"n9\" is no member","hint":"Members: n1."}}"#,
            ),
        };
        let error = parsed(&answer).unwrap_err().to_string();
        assert_eq!(error, "\"n9\" is no member (42704)\nMembers: n1.");
    }
}
