// Command kube-scheduler is the unchanged Kubernetes scheduler, compiled from the public module for the cluster tests.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // requests of its own clients appear in /metrics
	"k8s.io/kubernetes/cmd/kube-scheduler/app"
)

func main() { os.Exit(cli.Run(app.NewSchedulerCommand())) }
