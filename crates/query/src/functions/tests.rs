//! Functions, called through the engine.
