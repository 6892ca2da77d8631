package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/runtime/serializer"
)

// writeDefaults reads JSON objects and prints, for each, a line with it and one with what decoding and defaulting make of it.
func writeDefaults(out *bufio.Writer, in io.Reader) error {
	decoder := serializer.NewCodecFactory(scheme).UniversalDeserializer()
	for objects := json.NewDecoder(in); ; {
		var raw json.RawMessage
		if err := objects.Decode(&raw); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		object, _, err := decoder.Decode(raw, nil, nil)
		if err != nil {
			return fmt.Errorf("%s: %w", raw, err)
		}
		scheme.Default(object)
		defaulted, err := json.Marshal(object)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "{\"given\":%s,\"defaulted\":%s}\n", raw, defaulted)
	}
}
