package repo_test

import (
	"errors"
	"fmt"

	"github.com/holdstill/holdstill/repo"
)

func ExampleParseLocation() {
	config, err := repo.ParseLocationConfig([]byte(`{
		"backups": {"type": "s3", "region": "eu-central-1", "env_auth": "true"},
		"disk":    {"type": "local"}
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, text := range []string{"backups:/bucket//nightly/", "disk:/var/./backups", "disk:backups"} {
		location, err := repo.ParseLocation(text, config)
		var bad *repo.LocationError
		if errors.As(err, &bad) {
			fmt.Printf("%s breaks the rule %q at byte %d\n", text, bad.Rule, bad.Offset)
			continue
		}
		fmt.Println(location, location.Type(), location.IsLocal())
	}
	// Output:
	// backups:bucket/nightly s3 false
	// disk:/var/backups local true
	// disk:backups breaks the rule "local path is absolute" at byte 5
}

func ExampleParseLocationWithin() {
	config := repo.LocationConfig{"disk": {"type": "local"}}
	for _, text := range []string{"disk:/backups/app", "disk:/backups2", "disk:/backups/../etc"} {
		_, err := repo.ParseLocationWithin(text, config, "/backups")
		fmt.Println(text, err == nil)
	}
	// Output:
	// disk:/backups/app true
	// disk:/backups2 false
	// disk:/backups/../etc false
}
