package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	discovery "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Where kube-apiserver stores a resource if not under its plural.
var storagePrefix = map[string]string{
	"/replicationcontrollers":            "controllers",
	"/endpoints":                         "services/endpoints",
	"/services":                          "services/specs",
	"/nodes":                             "minions",
	"networking.k8s.io/ingresses":        "ingress",
	"apiregistration.k8s.io/apiservices": "apiregistration.k8s.io/apiservices",
	"apiextensions.k8s.io/customresourcedefinitions": "apiextensions.k8s.io/customresourcedefinitions",
}

// The version that is stored where a resource is served in more than one, or in a group that is not its own:
// seen in what a kube-apiserver 1.36 wrote to etcd.
var stored = map[string]string{
	"autoscaling/v1/horizontalpodautoscalers": "autoscaling/v2",
	"events.k8s.io/v1/events":                 "v1",
}

// writeResources prints what two documents of aggregated discovery, of /api and of /apis, say: a line for each group (g),
// version (v), resource (r) and subresource (s), in the server's order.
func writeResources(out *bufio.Writer, files ...string) error {
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var groups discovery.APIGroupDiscoveryList
		if err := json.Unmarshal(text, &groups); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		for _, group := range groups.Items {
			fmt.Fprintf(out, "g %s\n", group.Name)
			for _, version := range group.Versions {
				fmt.Fprintf(out, "v %s\n", version.Version)
				for _, resource := range version.Resources {
					writeResource(out, group.Name, version.Version, resource)
				}
			}
		}
	}
	return nil
}

func writeResource(out *bufio.Writer, group, version string, r discovery.APIResourceDiscovery) {
	prefix, special := storagePrefix[group+"/"+r.Resource]
	if !special {
		prefix = r.Resource
	}
	columns(out, "r", r.Resource, r.SingularResource, r.ResponseKind.Kind, string(r.Scope)[:1], list(r.Verbs), list(r.ShortNames),
		list(r.Categories), prefix, stored[group+"/"+version+"/"+r.Resource])
	for _, s := range r.Subresources {
		kind := metav1.GroupVersionKind{}
		if s.ResponseKind != nil {
			kind = *s.ResponseKind
		}
		columns(out, "s", s.Subresource, kind.Group, kind.Version, kind.Kind, list(s.Verbs))
	}
}

func list(words []string) string { return strings.Join(words, ",") }

func columns(out *bufio.Writer, letter string, values ...string) {
	fmt.Fprintln(out, letter, strings.TrimRight(strings.Join(values, "|"), "|"))
}
