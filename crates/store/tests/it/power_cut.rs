//! Power cuts at every write.
