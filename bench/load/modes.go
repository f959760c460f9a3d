package main

// A nuisance is what is done to the database while the writers commit.
type nuisance int

const (
	nothing         nuisance = iota
	engineSnapshots          // snapshots of the engine
	checkpoints              // Pebble's own DB.Checkpoint
	gateCheckpoints          // the same inside a freeze of the gate
)

// A mode is one line of the table.
type mode struct {
	number int
	name   string
	gate   bool // transactions pass the gate
	what   nuisance
	large  bool // ten times the tables
	long   bool // one transaction stays inside for most of the round
	base   int  // the number of the mode whose p99 this one is compared with
}

func allModes() []mode {
	return []mode{
		{number: 1, name: "no gate, no snapshots", base: 2},
		{number: 2, name: "gate, no snapshots", gate: true, base: 2},
		{number: 3, name: "gate, snapshots", gate: true, what: engineSnapshots, base: 2},
		{number: 4, name: "no gate, DB.Checkpoint", what: checkpoints, base: 2},
		{number: 5, name: "gate held for DB.Checkpoint", gate: true, what: gateCheckpoints, base: 2},
		{number: 6, name: "gate, snapshots, 10x tables", gate: true, what: engineSnapshots, large: true, base: 8},
		{number: 7, name: "gate, snapshots, long transaction", gate: true, what: engineSnapshots, long: true, base: 2},
		{number: 8, name: "gate, no snapshots, 10x tables", gate: true, large: true, base: 8},
		{number: 9, name: "gate held for DB.Checkpoint, 10x tables", gate: true, what: gateCheckpoints, large: true, base: 8},
	}
}
