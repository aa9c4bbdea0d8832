//! Lua as redis has it: `redis.call` and its kin, KEYS and ARGV, and the way of values and errors there and back.

use std::cell::RefCell;
use std::collections::BTreeMap;

use mlua::{Function, Lua, Table, Value, Variadic};

use super::Server;
use super::client::ClientId;
use super::resp::Reply;
use super::version::Version;

/// The name that redis gives to every script.
const CHUNK: &str = "@user_script";

/// What a script is run with.
pub struct Run<'a> {
    pub client: ClientId,
    pub hash: &'a str,
    pub keys: &'a [Vec<u8>],
    pub arguments: &'a [Vec<u8>],
}

/// One interpreter, and the scripts that it has compiled.
pub struct Engine {
    lua: Lua,
    redis: Table,
    version: Version,
    functions: RefCell<BTreeMap<String, Function>>,
}

/// An error that `redis.call` ended a script with, and in which line.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
struct Ended {
    text: String,
    line: usize,
}

impl Engine {
    pub fn new(version: Version) -> Self {
        let lua = Lua::new();
        let redis = prepare(&lua, version).expect("a new interpreter takes what it is given");
        Self { lua, redis, version, functions: RefCell::default() }
    }

    /// # Errors
    /// As redis words that it is no Lua.
    pub fn compile(&self, hash: &str, source: &str) -> Result<(), String> {
        if self.functions.borrow().contains_key(hash) {
            return Ok(());
        }
        let function = self.lua.load(source).set_name(CHUNK).into_function().map_err(|error| {
            let text = match &error {
                mlua::Error::SyntaxError { message, .. } => message.clone(),
                other => other.to_string(),
            };
            format!("ERR Error compiling script (new function): {text}")
        })?;
        self.functions.borrow_mut().insert(hash.to_owned(), function);
        Ok(())
    }

    /// Runs a script that is compiled.
    pub fn run(&self, server: &mut Server, run: &Run<'_>) -> Reply {
        let function = self.functions.borrow()[run.hash].clone();
        let server = RefCell::new((server, false));
        let result = self.lua.scope(|scope| {
            let ask = |lua: &Lua, words: Variadic<Value>| -> mlua::Result<Reply> {
                let line = line_of(lua);
                let located = |text: &str| match self.version {
                    Version::Redis62 => format!("@user_script: {line}: {text}"),
                    _ => text.to_owned(),
                };
                let reply = words_of(self.version, &words).and_then(|words| {
                    let (server, written) = &mut *server.borrow_mut();
                    server.call_from_script(run, &words, written)
                });
                Ok(reply.unwrap_or_else(|text| Reply::Error(located(&text))))
            };
            let call = scope.create_function(move |lua, words| match ask(lua, words)? {
                Reply::Error(text) => {
                    let line = line_of(lua);
                    Err(mlua::Error::external(Ended { text, line }))
                }
                reply => to_lua(lua, &reply),
            })?;
            let pcall = scope.create_function(move |lua, words| to_lua(lua, &ask(lua, words)?))?;
            self.redis.raw_set("call", call)?;
            self.redis.raw_set("pcall", pcall)?;
            let globals = self.lua.globals();
            globals.raw_set("KEYS", list(&self.lua, run.keys)?)?;
            globals.raw_set("ARGV", list(&self.lua, run.arguments)?)?;
            function.call::<Value>(()).and_then(|value| from_lua(&value))
        });
        result.unwrap_or_else(|error| self.failure(&error, run.hash))
    }

    /// How redis words that a script ended with an error.
    fn failure(&self, error: &mlua::Error, hash: &str) -> Reply {
        let (mut text, line) = match error {
            mlua::Error::CallbackError { cause, .. } if ended(cause).is_some() => {
                let Ended { text, line } = ended(cause).unwrap();
                (text, line.to_string())
            }
            other => {
                let text = match other {
                    mlua::Error::RuntimeError(text) => text.clone(),
                    other => other.to_string(),
                };
                let text = text.split("\nstack traceback").next().unwrap_or_default().to_owned();
                let line = text.split(':').nth(1).unwrap_or_default().to_owned();
                let code = if self.version.is_old() { "" } else { "ERR " };
                (format!("{code}{text}"), line)
            }
        };
        text = match self.version {
            Version::Redis62 => {
                format!("ERR Error running script (call to f_{hash}): @user_script:{line}: {text}")
            }
            Version::Redis70 | Version::Redis8 => {
                format!("{text} script: {hash}, on @user_script:{line}.")
            }
            Version::Valkey9 => format!("{text} script: on @user_script:{line}."),
        };
        Reply::Error(text)
    }
}

/// Where the script is that calls us.
#[allow(clippy::redundant_closure_for_method_calls, reason = "the method itself has the wrong lifetime")]
fn line_of(lua: &Lua) -> usize {
    lua.inspect_stack(1, |debug| debug.current_line()).flatten().unwrap_or_default()
}

fn ended(cause: &mlua::Error) -> Option<Ended> {
    cause.downcast_ref::<Ended>().cloned()
}

/// The globals of redis; no others can be read or made.
fn prepare(lua: &Lua, version: Version) -> mlua::Result<Table> {
    let redis = lua.create_table()?;
    redis.raw_set("replicate_commands", lua.create_function(|_, ()| Ok(true))?)?;
    redis.raw_set(
        "status_reply",
        lua.create_function(|lua, text: mlua::String| {
            let reply = lua.create_table()?;
            reply.raw_set("ok", text)?;
            Ok(reply)
        })?,
    )?;
    redis.raw_set(
        "error_reply",
        lua.create_function(move |lua, text: mlua::String| {
            let text = text.to_string_lossy();
            let text = match text.strip_prefix('-') {
                _ if version.is_old() => text,
                Some(rest) => rest.to_owned(),
                None if text.contains(' ') => text,
                None => format!("ERR {text}"),
            };
            let reply = lua.create_table()?;
            reply.raw_set("err", text)?;
            Ok(reply)
        })?,
    )?;
    let globals = lua.globals();
    globals.raw_set("redis", &redis)?;
    let border = lua
        .load(
            "return {
                __index = function(_, name)
                    error(\"Script attempted to access nonexistent global variable '\" .. tostring(name) .. \"'\", 2)
                end,
                __newindex = function() error('Attempt to modify a readonly table', 2) end,
            }",
        )
        .eval::<Table>()?;
    globals.set_metatable(Some(border))?;
    Ok(redis)
}

fn list(lua: &Lua, words: &[Vec<u8>]) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    for word in words {
        table.raw_push(lua.create_string(word)?)?;
    }
    Ok(table)
}

fn words_of(version: Version, values: &[Value]) -> Result<Vec<Vec<u8>>, String> {
    if values.is_empty() {
        let text = match version {
            Version::Redis62 => "Please specify at least one argument for redis.call()",
            Version::Redis70 | Version::Redis8 => {
                "ERR Please specify at least one argument for this redis lib call"
            }
            Version::Valkey9 => "ERR Please specify at least one argument for this call",
        };
        return Err(text.into());
    }
    let word = |value: &Value| match value {
        Value::String(text) => Some(text.as_bytes().to_vec()),
        Value::Integer(number) => Some(number.to_string().into_bytes()),
        Value::Number(number) => Some(number.to_string().into_bytes()),
        _ => None,
    };
    values.iter().map(word).collect::<Option<_>>().ok_or_else(|| {
        match version {
            Version::Redis62 => "Lua redis() command arguments must be strings or integers",
            Version::Redis70 | Version::Redis8 => {
                "ERR Lua redis lib command arguments must be strings or integers"
            }
            Version::Valkey9 => "ERR Command arguments must be strings or integers",
        }
        .into()
    })
}

/// A reply as a script sees it, which is one of RESP2.
fn to_lua(lua: &Lua, reply: &Reply) -> mlua::Result<Value> {
    let named = |name: &str, text: &str| {
        let table = lua.create_table()?;
        table.raw_set(name, text)?;
        Ok(Value::Table(table))
    };
    match reply {
        Reply::Simple(text) => named("ok", text),
        Reply::Error(text) => named("err", text),
        #[allow(clippy::cast_precision_loss, reason = "Lua 5.1 has no other numbers")]
        Reply::Int(number) => Ok(Value::Number(*number as f64)),
        Reply::Bulk(bytes) => lua.create_string(bytes).map(Value::String),
        Reply::Verbatim(text) => lua.create_string(text).map(Value::String),
        Reply::Nil | Reply::NilArray => Ok(Value::Boolean(false)),
        Reply::Array(items) | Reply::Push(items) => {
            let table = lua.create_table()?;
            for item in items {
                table.raw_push(to_lua(lua, item)?)?;
            }
            Ok(Value::Table(table))
        }
        Reply::Map(fields) => {
            let table = lua.create_table()?;
            for (name, value) in fields {
                table.raw_push(to_lua(lua, name)?)?;
                table.raw_push(to_lua(lua, value)?)?;
            }
            Ok(Value::Table(table))
        }
    }
}

/// What a script returns, as a reply.
fn from_lua(value: &Value) -> mlua::Result<Reply> {
    Ok(match value {
        Value::String(text) => Reply::Bulk(text.as_bytes().to_vec()),
        Value::Integer(number) => Reply::Int(*number),
        #[allow(clippy::cast_possible_truncation, reason = "redis cuts numbers off just so")]
        Value::Number(number) => Reply::Int(*number as i64),
        Value::Boolean(true) => Reply::Int(1),
        Value::Table(table) => {
            if let Value::String(text) = table.raw_get::<Value>("err")? {
                return Ok(Reply::Error(text.to_string_lossy()));
            }
            if let Value::String(text) = table.raw_get::<Value>("ok")? {
                return Ok(Reply::Simple(text.to_string_lossy()));
            }
            let mut items = Vec::new();
            // Up to the first hole.
            for index in 1.. {
                match table.raw_get::<Value>(index)? {
                    Value::Nil => break,
                    value => items.push(from_lua(&value)?),
                }
            }
            Reply::Array(items)
        }
        _ => Reply::Nil,
    })
}
