//! The edge from outside: real sockets, real plans, small apps behind it.

mod address;
mod app;
mod drain;
mod http;
mod plan_file;
mod retry;
mod strict;
mod tcp;
mod upgrade;
mod world;
