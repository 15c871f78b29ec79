package main

import (
	"fmt"
	"os"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// judgeDockerfile parses a file as `docker build --check` does, and prints what its linter warns of.
func judgeDockerfile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	parsed, err := parser.Parse(file)
	if err != nil {
		return err
	}
	warnings := 0
	warn := func(rule, _, _, message string, at []parser.Range) {
		line := 0
		if len(at) > 0 {
			line = at[0].Start.Line
		}
		fmt.Printf("%s:%d: %s: %s\n", path, line, rule, message)
		warnings++
	}
	if _, _, err := instructions.Parse(parsed.AST, linter.New(&linter.Config{Warn: warn})); err != nil {
		return err
	}
	for _, each := range parsed.Warnings {
		warn("parser", "", "", each.Short, nil)
	}
	if warnings > 0 {
		return fmt.Errorf("%d warnings", warnings)
	}
	return nil
}
