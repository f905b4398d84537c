// What `docker compose config --quiet` does, without Docker: reads compose files with the library that Docker Compose is made of, with every profile
// and the variables of the environment. It starts nothing. The exit code is 1, with the reason, if they cannot be read.
//
// usage: load FILE...
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	if err := load(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func load(files []string) error {
	options, err := cli.NewProjectOptions(files, cli.WithOsEnv, cli.WithProfiles([]string{"*"}), cli.WithName("loginlake"))
	if err != nil {
		return err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return err
	}
	fmt.Printf("%d services are read\n", len(project.Services))
	return nil
}
