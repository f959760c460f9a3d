// Command deltas measures what the next snapshot of a database adds to a repository,
// after a share of the rows changed at random: with holdstill as it is, with its
// differences off, with other tools, and, as a yardstick, if each changed page of 4 KiB
// were compressed by itself. It prints a table in Markdown.
//
//	go run ./deltas                  from the folder bench; tools that are not installed are left out
//	go run ./deltas -size 16 -percent 5 -kinds sql
package main
