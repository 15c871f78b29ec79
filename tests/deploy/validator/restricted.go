package main

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	security "k8s.io/pod-security-admission/api"
)

// restricted says what of a pod the standard `restricted` forbids.
func restricted(meta *metav1.ObjectMeta, spec *corev1.PodSpec) []string {
	var found []string
	level := security.LevelVersion{Level: security.LevelRestricted, Version: security.LatestVersion()}
	for _, result := range evaluator.EvaluatePod(level, meta, spec) {
		if !result.Allowed {
			found = append(found, "pod security: "+result.ForbiddenReason+": "+result.ForbiddenDetail)
		}
	}
	return found
}
