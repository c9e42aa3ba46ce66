//! What single operations do, each in a few lines.
