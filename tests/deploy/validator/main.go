// Says whether a file of deploy/ is right, with the code of the programs that would read it: kustomize, the Kubernetes API
// server and its pod security admission, Docker Compose's loader, BuildKit's parser and linter.
//
//	validator kustomize DIR      the objects that DIR makes, as YAML
//	validator kubernetes         reads objects as YAML from standard input; prints what is wrong with each, a line each
//	validator compose FILE       the project as Compose understands it, as JSON
//	validator dockerfile FILE    prints what is wrong, a line each
//
// Ends with 0 when nothing is wrong, 1 when something is. Nothing is fetched, nothing is sent.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) == 0 {
		return fmt.Errorf("validator kustomize DIR | kubernetes | compose FILE | dockerfile FILE")
	}
	switch what, rest := arguments[0], arguments[1:]; {
	case what == "kustomize" && len(rest) == 1:
		return printKustomization(rest[0])
	case what == "kubernetes" && len(rest) == 0:
		return judgeObjects(os.Stdin)
	case what == "compose" && len(rest) == 1:
		return printProject(rest[0])
	case what == "dockerfile" && len(rest) == 1:
		return judgeDockerfile(rest[0])
	}
	return fmt.Errorf("validator cannot do that: %q", arguments)
}
