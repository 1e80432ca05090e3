//! The commands, one file each. Every one runs on its own and ends with an exit code.

mod backup;
mod cert;
mod config;
pub mod demo;
mod dns;
mod doctor;
mod init;
pub mod invite;
pub mod login;
mod peers;
mod ping;
mod policy;
mod quarantine;
pub mod replay;
mod serve;
pub mod wave;
mod xmpp_config;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// A Wave server: live documents shared by people of several domains.
///
/// Exit codes: 0 done, 1 it failed (one line on standard error says why and what to do), 2 the command was not understood.
#[derive(Debug, Parser)]
#[command(name = "billow", version, propagate_version = true)]
pub struct Billow {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Init(init::Init),
    Cert(cert::Cert),
    Dns(dns::Dns),
    Config(config::ConfigCommand),
    Doctor(doctor::Doctor),
    XmppConfig(xmpp_config::XmppConfig),
    Backup(backup::Backup),
    Restore(backup::Restore),
    Scrub(backup::Scrub),
    Salvage(backup::Salvage),
    Adopt(backup::Adopt),
    Peers(peers::Peers),
    Ping(ping::Ping),
    Trace(ping::Trace),
    Policy(policy::Policy),
    Quarantine(quarantine::Quarantine),
    /// Two organisations on this machine, federating for real
    Demo(InFormat<demo::Demo>),
    /// Sign in at a server and remember it under a profile name
    Login(AsPerson<login::Login>),
    /// Print a code with which somebody may make an account at your server
    Invite(AsPerson<invite::Invite>),
    /// Waves: list, make, read and write them
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Wave(WaveAsPerson),
    /// Type a real editing history again, each of its people a signed-in user, and compare the end
    Replay(InFormat<replay::Replay>),
}

// A command that can answer in JSON. (A doc comment here would become every such command's help.)
#[derive(Debug, Args)]
struct InFormat<C: Args> {
    #[command(flatten)]
    command: C,
    /// Answer with one line of JSON
    #[arg(long)]
    json: bool,
}

// A command of a signed-in person.
#[derive(Debug, Args)]
struct AsPerson<C: Args> {
    #[command(flatten)]
    command: C,
    #[command(flatten)]
    person: Person,
}

#[derive(Debug, Args)]
struct WaveAsPerson {
    #[command(subcommand)]
    command: wave::Wave,
    #[command(flatten)]
    person: Person,
}

#[derive(Debug, Args)]
struct Person {
    /// Which sign-in: the name given to `billow login`
    #[arg(
        long,
        env = "BILLOW_PROFILE",
        value_name = "NAME",
        default_value = "default",
        global = true
    )]
    profile: String,
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
}

impl Billow {
    /// Runs the command that was given.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Serve(serve) => serve.run(),
            Command::Init(init) => init.run(),
            Command::Cert(cert) => cert.run(),
            Command::Dns(dns) => dns.run(),
            Command::Config(config) => config.run(),
            Command::Doctor(doctor) => tokio::runtime::Runtime::new()?.block_on(doctor.run()),
            Command::XmppConfig(xmpp_config) => xmpp_config.run(),
            Command::Backup(backup) => backup.run(),
            Command::Restore(restore) => restore.run(),
            Command::Scrub(scrub) => tokio::runtime::Runtime::new()?.block_on(scrub.run()),
            Command::Salvage(salvage) => salvage.run(),
            Command::Adopt(adopt) => tokio::runtime::Runtime::new()?.block_on(adopt.run()),
            Command::Peers(peers) => tokio::runtime::Runtime::new()?.block_on(peers.run()),
            Command::Ping(ping) => tokio::runtime::Runtime::new()?.block_on(ping.run()),
            Command::Trace(trace) => tokio::runtime::Runtime::new()?.block_on(trace.run()),
            Command::Policy(policy) => tokio::runtime::Runtime::new()?.block_on(policy.run()),
            Command::Quarantine(quarantine) => tokio::runtime::Runtime::new()?.block_on(quarantine.run()),
            Command::Demo(demo) => block_on(demo.command.run(demo.json)),
            Command::Login(login) => block_on(login.command.run(&login.person.profile, login.person.json)),
            Command::Invite(invite) => block_on(invite.command.run(&invite.person.profile, invite.person.json)),
            Command::Wave(wave) => block_on(wave.command.run(&wave.person.profile, wave.person.json)),
            Command::Replay(replay) => block_on(replay.command.run(replay.json)),
        }
    }
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(work)?;
    Ok(ExitCode::SUCCESS)
}
