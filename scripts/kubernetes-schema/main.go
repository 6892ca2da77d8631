// Command kubernetes-schema writes the facts about Kubernetes' own API types that the gateway works by: names and
// numbers, never descriptions. `go run . types` prints the types by reflection over the registered Go structs,
// `go run . resources API APIS LEGACY` prints the resources from a server's discovery documents, and `go run . defaults`
// prints what upstream's defaulting makes of the objects that it reads, `go run . patches` what its strategic merge makes of
// an object and a patch.
package main

import (
	"bufio"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "kubernetes-schema:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	switch {
	case len(args) == 1 && args[0] == "types":
		return writeTypes(out)
	case len(args) == 3 && args[0] == "resources":
		return writeResources(out, args[1], args[2])
	case len(args) == 1 && args[0] == "defaults":
		return writeDefaults(out, os.Stdin)
	case len(args) == 1 && args[0] == "patches":
		return writePatches(out, os.Stdin)
	}
	return fmt.Errorf("usage: kubernetes-schema types | resources API APIS | defaults | patches")
}
