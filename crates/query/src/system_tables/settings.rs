//! Settings as `pg_settings` and `current_setting` tell them.
//!
//! These are the values with which a session begins. What a session has SET is
//! told by SHOW: plans are shared by sessions, so a plan cannot hold it.

/// Name, value, category and type of a setting.
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) value: &'static str,
    pub(super) category: &'static str,
    pub(super) kind: &'static str,
}

const fn of(
    name: &'static str,
    value: &'static str,
    category: &'static str,
    kind: &'static str,
) -> Setting {
    Setting {
        name,
        value,
        category,
        kind,
    }
}

const CLIENT: &str = "Client Connection Defaults";
const PRESET: &str = "Preset Options";

/// All of them, by name.
pub(super) const SETTINGS: &[Setting] = &[
    of("application_name", "", "Reporting and Logging", "string"),
    of("block_size", "8192", PRESET, "integer"),
    of("bytea_output", "hex", CLIENT, "enum"),
    of("client_encoding", "UTF8", CLIENT, "string"),
    of("client_min_messages", "notice", CLIENT, "enum"),
    of("datestyle", "ISO, MDY", CLIENT, "string"),
    of("default_table_access_method", "heap", CLIENT, "string"),
    of("default_tablespace", "", CLIENT, "string"),
    of(
        "default_transaction_isolation",
        "repeatable read",
        CLIENT,
        "enum",
    ),
    of("default_transaction_read_only", "off", CLIENT, "bool"),
    of("extra_float_digits", "1", CLIENT, "integer"),
    of(
        "idle_in_transaction_session_timeout",
        "0",
        CLIENT,
        "integer",
    ),
    of("idle_session_timeout", "0", CLIENT, "integer"),
    of("in_hot_standby", "off", PRESET, "bool"),
    of("integer_datetimes", "on", PRESET, "bool"),
    of("intervalstyle", "postgres", CLIENT, "enum"),
    of("is_superuser", "on", PRESET, "bool"),
    of("jit", "off", "Query Tuning", "bool"),
    of("lc_collate", "C", PRESET, "string"),
    of("lc_ctype", "C.UTF-8", PRESET, "string"),
    of("lc_messages", "C", CLIENT, "string"),
    of("lc_monetary", "C", CLIENT, "string"),
    of("lc_numeric", "C", CLIENT, "string"),
    of("lc_time", "C", CLIENT, "string"),
    of("lock_timeout", "0", CLIENT, "integer"),
    of(
        "max_connections",
        "500",
        "Connections and Authentication",
        "integer",
    ),
    of("max_identifier_length", "63", PRESET, "integer"),
    of("max_index_keys", "32", PRESET, "integer"),
    of(
        "password_encryption",
        "scram-sha-256",
        "Connections and Authentication",
        "enum",
    ),
    of("row_security", "on", CLIENT, "bool"),
    of("search_path", "\"$user\", public", CLIENT, "string"),
    of("server_encoding", "UTF8", PRESET, "string"),
    of("server_version", SERVER_VERSION, PRESET, "string"),
    of("server_version_num", "150000", PRESET, "integer"),
    of(
        "standard_conforming_strings",
        "on",
        "Version and Platform Compatibility",
        "bool",
    ),
    of("statement_timeout", "0", CLIENT, "integer"),
    of("synchronous_commit", "on", "Write-Ahead Log", "enum"),
    of("timezone", "UTC", CLIENT, "string"),
    of("transaction_isolation", "repeatable read", CLIENT, "enum"),
    of("transaction_read_only", "off", CLIENT, "bool"),
    of("transaction_timeout", "0", CLIENT, "integer"),
    of("wal_level", "replica", "Write-Ahead Log", "enum"),
    of("work_mem", "4096", "Resource Usage", "integer"),
];

/// The PostgreSQL version whose behaviour clients may expect, and ours.
pub(crate) const SERVER_VERSION: &str = concat!("15.0 (Chronos ", env!("CARGO_PKG_VERSION"), ")");

/// The value with which a session begins; `None`: there is no such setting.
pub(crate) fn setting(name: &str) -> Option<&'static str> {
    SETTINGS
        .iter()
        .find(|s| s.name.eq_ignore_ascii_case(name))
        .map(|s| s.value)
}
