//! What only simulations ask of a node: small files, so that a short run meets their ends, and mistakes, so that
//! whoever looks for mistakes can show that he finds some.

/// What is different in a simulation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Simulated {
    /// Size of the log's files, instead of what the profile says.
    pub log_file_bytes: Option<u64>,
    /// Bytes of the log that are kept for nodes that are behind, instead of what is good for them.
    pub log_keep_bytes: Option<u64>,
    /// Whether times of heartbeats and elections stay as given, whatever links and disks demand.
    pub keeps_times: bool,
    /// How much faster than time the clock runs by which the consensus waits, in parts of a million.
    pub clock_ppm: i64,
    /// A mistake that the node makes.
    pub sabotage: Option<Sabotage>,
}

/// Mistakes that consensus must not make, each of which loses, doubles or hides something in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Answers for entries that it has written to its log and not synced.
    SkipLogSync,
    /// Grants every vote that it is asked for, whatever it voted before and however much it knows.
    GrantAnyVote,
    /// Does not know after a restart what it voted for.
    ForgetVote,
    /// Takes entries from a leader of an earlier term as if they came from the present one.
    AcceptOlderTerm,
    /// Takes what it has sent to a follower for stored there.
    AcknowledgeBeforeQuorum,
    /// Takes a proposal that was not answered for one that was not taken, so that it is made again.
    ProposeAgain,
    /// After a restart applies the last entry that its store contains once more.
    ApplyAgain,
    /// Answers reads as a leader without asking whether it still is one.
    ReadWithoutQuorum,
    /// Takes a leader's lease for much longer than others wait for it to end.
    OverstayLease,
}
