package main

import (
	"reflect"
	"strings"

	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kubernetes/pkg/generated/openapi"
)

// property is what upstream's OpenAPI says of a field and Go's struct tags do not.
type property struct {
	required bool
	list     string // the x-kubernetes-list-type, or for maps and structs the x-kubernetes-map-type
	keys     string // the x-kubernetes-list-map-keys, joined by commas
}

type modelNamer interface{ OpenAPIModelName() string }

// modelName is the name under which upstream's OpenAPI knows a type, or nothing.
func modelName(r reflect.Type) string {
	if namer, ok := reflect.New(r).Interface().(modelNamer); ok {
		return namer.OpenAPIModelName()
	}
	return r.PkgPath() + "." + r.Name()
}

// openAPIProperties is the properties of every model by the model's name.
func openAPIProperties() map[string]map[string]property {
	models := map[string]map[string]property{}
	for name, definition := range openapi.GetOpenAPIDefinitions(func(path string) spec.Ref { return spec.MustCreateRef(path) }) {
		properties := map[string]property{}
		for field, schema := range definition.Schema.Properties {
			properties[field] = property{list: listType(schema), keys: listKeys(schema)}
		}
		for _, field := range definition.Schema.Required {
			p := properties[field]
			p.required = true
			properties[field] = p
		}
		models[name] = properties
	}
	return models
}

func listType(schema spec.Schema) string {
	for _, key := range []string{"x-kubernetes-list-type", "x-kubernetes-map-type"} {
		if text, ok := schema.Extensions.GetString(key); ok {
			return text
		}
	}
	return ""
}

func listKeys(schema spec.Schema) string {
	keys, _ := schema.Extensions.GetStringSlice("x-kubernetes-list-map-keys")
	return strings.Join(keys, ",")
}
