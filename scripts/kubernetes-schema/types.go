package main

import (
	"bufio"
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsv1beta1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
)

// Structs whose JSON or protobuf form is not the sum of their fields. The reader of the table knows each by its letter.
var special = map[reflect.Type]string{
	reflect.TypeOf(metav1.Time{}):                                       "T",
	reflect.TypeOf(metav1.MicroTime{}):                                  "U",
	reflect.TypeOf(metav1.Duration{}):                                   "D",
	reflect.TypeOf(resource.Quantity{}):                                 "Q",
	reflect.TypeOf(intstr.IntOrString{}):                                "I",
	reflect.TypeOf(runtime.RawExtension{}):                              "R",
	reflect.TypeOf(metav1.FieldsV1{}):                                   "V",
	reflect.TypeOf(apiextensionsv1.JSON{}):                              "J",
	reflect.TypeOf(apiextensionsv1beta1.JSON{}):                         "J",
	reflect.TypeOf(apiextensionsv1.JSONSchemaPropsOrBool{}):             "B",
	reflect.TypeOf(apiextensionsv1beta1.JSONSchemaPropsOrBool{}):        "B",
	reflect.TypeOf(apiextensionsv1.JSONSchemaPropsOrArray{}):            "A",
	reflect.TypeOf(apiextensionsv1beta1.JSONSchemaPropsOrArray{}):       "A",
	reflect.TypeOf(apiextensionsv1.JSONSchemaPropsOrStringArray{}):      "P",
	reflect.TypeOf(apiextensionsv1beta1.JSONSchemaPropsOrStringArray{}): "P",
}

// The types whose special form holds the message with the number that follows the letter.
var holds = map[string]bool{"B": true, "A": true, "P": true}

type marshaler interface{ Marshal() ([]byte, error) }

var marshalerType = reflect.TypeOf((*marshaler)(nil)).Elem()

type table struct {
	numbers map[reflect.Type]int
	types   []reflect.Type
}

func (t *table) number(r reflect.Type) int {
	if n, ok := t.numbers[r]; ok {
		return n
	}
	n := len(t.types)
	t.numbers[r] = n
	t.types = append(t.types, r)
	return n
}

// shape is the form of a value: a letter, [] or {} before the form of what it holds, # before the number of a message.
func (t *table) shape(r reflect.Type) (string, error) {
	if letter, ok := special[r]; ok {
		if holds[letter] {
			schema, _ := r.FieldByName("Schema")
			return fmt.Sprintf("%s%d", letter, t.number(schema.Type.Elem())), nil
		}
		return letter, nil
	}
	switch r.Kind() {
	case reflect.String:
		return "s" + named(r), nil
	case reflect.Int32:
		return "i" + named(r), nil
	case reflect.Int, reflect.Int64:
		return "l" + named(r), nil
	case reflect.Bool:
		return "b" + named(r), nil
	case reflect.Uint8:
		return "c", nil
	case reflect.Float64:
		return "f", nil
	case reflect.Pointer:
		return t.shape(r.Elem())
	case reflect.Slice:
		if r.Elem().Kind() == reflect.Uint8 {
			return "y", nil
		}
		inner, err := t.shape(r.Elem())
		prefix := "[]"
		if reflect.PointerTo(r).Implements(marshalerType) {
			prefix = "w" // a message of its own on the wire, whose only field is the list
		}
		return prefix + inner, err
	case reflect.Map:
		inner, err := t.shape(r.Elem())
		return "{}" + inner, err
	case reflect.Struct:
		return fmt.Sprintf("#%d", t.number(r)), nil
	}
	return "", fmt.Errorf("no form for %v", r)
}

// named is the Go name of a scalar type that is not built in: upstream's decoding errors name it.
func named(r reflect.Type) string {
	if r.PkgPath() == "" {
		return ""
	}
	return ":" + r.String()
}

func (t *table) field(f reflect.StructField, facts map[string]property) (string, error) {
	name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "-" {
		return "", nil
	}
	number := 0
	if parts := strings.Split(f.Tag.Get("protobuf"), ","); len(parts) > 1 {
		n, err := strconv.Atoi(parts[1])
		if err != nil {
			return "", err
		}
		number = n
	}
	shape, err := t.shape(f.Type)
	if err != nil {
		return "", fmt.Errorf("%s: %w", f.Name, err)
	}
	flags := ""
	if f.Type.Kind() == reflect.Pointer {
		flags += "p"
	}
	if strings.Contains(options, "inline") || (f.Anonymous && name == "") {
		flags += "n"
		name = ""
	} else if name == "" {
		name = f.Name
	}
	for _, o := range strings.Split(options, ",") {
		switch o {
		case "omitempty":
			flags += "o"
		case "omitzero":
			flags += "z"
		}
	}
	p := facts[name]
	if p.required {
		flags += "r"
	}
	columns := []string{name, strconv.Itoa(number), shape, flags, f.Tag.Get("patchStrategy"), f.Tag.Get("patchMergeKey"), p.list, p.keys}
	return "f " + strings.TrimRight(strings.Join(columns, "|"), "|"), nil
}

func writeTypes(out *bufio.Writer) error {
	t := &table{numbers: map[reflect.Type]int{}}
	kinds := []string{}
	for gvk, r := range scheme.AllKnownTypes() {
		if gvk.Version == runtime.APIVersionInternal {
			continue
		}
		kinds = append(kinds, fmt.Sprintf("%s|%s|%s|%s", gvk.Group, gvk.Version, gvk.Kind, typeName(r)))
	}
	sort.Strings(kinds)
	byName := map[string]reflect.Type{}
	for _, r := range scheme.AllKnownTypes() {
		byName[typeName(r)] = r
	}
	models := openAPIProperties()
	numbered := []string{}
	for _, k := range kinds {
		parts := strings.Split(k, "|")
		n := t.number(byName[parts[3]])
		numbered = append(numbered, fmt.Sprintf("k %s|%s|%s|%d", parts[0], parts[1], parts[2], n))
	}
	for i := 0; i < len(t.types); i++ {
		r := t.types[i]
		fmt.Fprintf(out, "t %s\n", typeName(r))
		facts := models[modelName(r)]
		for j := 0; j < r.NumField(); j++ {
			if !r.Field(j).IsExported() {
				continue
			}
			line, err := t.field(r.Field(j), facts)
			if err != nil {
				return fmt.Errorf("%s: %w", typeName(r), err)
			}
			if line != "" {
				fmt.Fprintln(out, line)
			}
		}
	}
	for _, k := range numbered {
		fmt.Fprintln(out, k)
	}
	return nil
}

// typeName is the package's path without what all have in common, and the type's name.
func typeName(r reflect.Type) string {
	path := r.PkgPath()
	for _, prefix := range []string{"k8s.io/api/", "k8s.io/apimachinery/pkg/apis/", "k8s.io/apimachinery/pkg/", "k8s.io/kube-aggregator/pkg/apis/", "k8s.io/apiextensions-apiserver/pkg/apis/"} {
		path = strings.TrimPrefix(path, prefix)
	}
	return path + "." + r.Name()
}
