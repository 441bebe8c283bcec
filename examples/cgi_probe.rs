//! A CGI script for the tests: does what the path behind its name says, with the query as an argument.

use std::io::{self, BufRead, Read, Write};
use std::net::TcpStream;
use std::{env, fs, process};

fn main() -> io::Result<()> {
    let argument = env::args().nth(1).unwrap_or_default();
    let action = env::var("PATH_INFO").unwrap_or_default();
    match action.as_str() {
        "/panic" => panic!("asked to"),
        "/silence" => loop {
            std::hint::spin_loop();
        },
        _ => {}
    }
    print!("Content-Type: text/plain\n\n");
    io::stdout().flush()?;
    match action.as_str() {
        "/exit" => process::exit(argument.parse().unwrap_or(1)),
        "/stderr" => eprintln!("{argument}"),
        "/loop" => loop {
            std::hint::spin_loop();
        },
        "/wait" => drop(io::stdin().read_to_end(&mut Vec::new())?),
        "/allocate" => {
            let mut held = Vec::new();
            for size in 1_u64.. {
                held.push(vec![1_u8; 1024 * 1024]);
                if size % 8 == 0 {
                    println!("{size} MiB");
                }
            }
        }
        "/read" => println!("{:?}", fs::read_to_string(argument).ok()),
        "/write" => println!("{:?}", fs::write(argument, "written").is_ok()),
        "/connect" => println!("{:?}", TcpStream::connect(argument).is_ok()),
        "/variables" => env::vars().for_each(|(name, value)| println!("{name}={value}")),
        "/echo" => {
            for line in io::stdin().lock().lines() {
                println!("got {}", line?);
            }
        }
        _ => println!("nothing to do"),
    }
    Ok(())
}
