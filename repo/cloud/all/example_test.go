package all_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdstill/holdstill/repo"
	_ "github.com/holdstill/holdstill/repo/cloud/s3"
)

// A repository in S3, opened by its location. The config is as a server or an operator has it, with rclone's keys.
func Example() {
	ctx := context.Background()
	config, err := repo.ParseLocationConfig([]byte(`{"S3": {"type": "s3", "provider": "Minio", "endpoint": "https://minio.example.com",
		"access_key_id": "backup", "secret_access_key": "it shows nowhere", "regoin": "eu-central-1"}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	location, err := repo.ParseLocation("S3:backups/app", config)
	if err != nil {
		fmt.Println(err)
		return
	}
	bucket, err := repo.OpenLocation(ctx, location, repo.OpenLocationOptions{})
	var wrong *repo.LocationError
	if errors.As(err, &wrong) {
		fmt.Println("section", wrong.Section, "key", wrong.Key, "breaks the rule:", wrong.Rule)
		return
	}
	defer bucket.Close()
	// repo.Init(ctx, bucket, ...) or repo.Open(ctx, bucket, ...), or all of it by snapshot.Config.Repository.
	// Output:
	// section "S3" key "regoin" breaks the rule: key is known
}
