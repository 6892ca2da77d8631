package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// writePatches reads lines with an object and a strategic merge patch and prints, for each, what upstream's library makes
// of them, or the error that it gives.
func writePatches(out *bufio.Writer, in io.Reader) error {
	for lines := json.NewDecoder(in); ; {
		var line struct{ Current, Patch json.RawMessage }
		if err := lines.Decode(&line); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		var of struct{ APIVersion, Kind string }
		if err := json.Unmarshal(line.Current, &of); err != nil {
			return err
		}
		object, err := scheme.New(schema.FromAPIVersionAndKind(of.APIVersion, of.Kind))
		if err != nil {
			return err
		}
		result, err := strategicpatch.StrategicMergePatch(line.Current, line.Patch, object)
		if err != nil {
			text, _ := json.Marshal(err.Error())
			fmt.Fprintf(out, "{\"current\":%s,\"patch\":%s,\"error\":%s}\n", line.Current, line.Patch, text)
			continue
		}
		fmt.Fprintf(out, "{\"current\":%s,\"patch\":%s,\"result\":%s}\n", line.Current, line.Patch, result)
	}
}
