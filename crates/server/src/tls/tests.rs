//! Certificates that go together, and others.
