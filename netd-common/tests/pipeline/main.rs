//! The pipeline on the host model.

mod claims;
mod craft;
mod fragments;
mod hosts;
mod life;
mod pressure;
mod published;
mod round_trips;
mod routes;
mod sockets;
mod talk;
mod verdicts;
