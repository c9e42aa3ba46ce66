//! Where a member answers HTTP.

use chronos_node::cluster::MemberStatus;

use crate::cli::args::HostPort;
use crate::cli::error::CliError;
use crate::cli::values::HttpUrl;

/// The HTTP address of a member, asked in the way in which another one was: what it says itself,
/// else the port that belongs to its gRPC address.
pub(in crate::cli) fn http_of(asked: &HttpUrl, member: &MemberStatus) -> Result<HttpUrl, CliError> {
    if let Some(told) = member.clients.http.as_deref() {
        return Ok(asked.at(told.parse().map_err(CliError::Lost)?));
    }
    let grpc: HostPort = member.address.parse().map_err(CliError::Lost)?;
    Ok(asked.at(grpc.http_beside()))
}

#[cfg(test)]
mod tests {
    use chronos_node::cluster::{ClientAddresses, NodeNumber, NodeRole};

    use super::*;

    #[test]
    fn what_a_member_says_counts_before_the_distance_of_ports() {
        let asked: HttpUrl = "https://a:1".parse().unwrap();
        let mut member = MemberStatus {
            id: "n2".into(),
            number: NodeNumber(2),
            address: "b:8001".into(),
            clients: ClientAddresses::default(),
            role: NodeRole::Voter,
            progress: None,
        };
        let of = |member: &MemberStatus| http_of(&asked, member).unwrap().to_string();
        assert_eq!(of(&member), "https://b:9001");
        member.clients.http = Some("b:7".into());
        assert_eq!(of(&member), "https://b:7");
    }
}
