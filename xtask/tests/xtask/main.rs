//! xtask as a program, and the rules of the workspace.
#![allow(clippy::unwrap_used)]

mod bench;
mod reproduce;
mod rooms;
mod rules;
mod source;
