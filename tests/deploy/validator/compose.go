package main

import (
	"context"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

// printProject loads a file as `docker compose config` does: against the schema, with its own environment file, no profile
// left out, and refusing what it does not know.
func printProject(file string) error {
	options, err := cli.NewProjectOptions([]string{file}, cli.WithDotEnv, cli.WithProfiles([]string{"*"}), cli.WithResolvedPaths(true))
	if err != nil {
		return err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return err
	}
	text, err := project.MarshalJSON()
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(text)
	return err
}
