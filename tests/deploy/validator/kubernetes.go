package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	podutil "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/apps"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	"k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/networking"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	networkingvalidation "k8s.io/kubernetes/pkg/apis/networking/validation"
	"k8s.io/pod-security-admission/policy"
)

// judgeObjects decodes each object strictly, gives it the defaults, and validates it as the API server would. What a pod
// may do is held to the pod security standard `restricted`.
func judgeObjects(from io.Reader) error {
	if err := monitoring.AddToScheme(legacyscheme.Scheme); err != nil {
		return err
	}
	decoder := serializer.NewCodecFactory(legacyscheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	wrong, seen := 0, 0
	for reader := utilyaml.NewYAMLReader(bufio.NewReader(from)); ; {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		object, kind, err := decoder.Decode(document, nil, nil)
		if err != nil {
			fmt.Printf("object %d: %v\n", seen, err)
			wrong, seen = wrong+1, seen+1
			continue
		}
		seen++
		for _, mistake := range mistakes(object) {
			fmt.Printf("%s: %s\n", kind.Kind, mistake)
			wrong++
		}
	}
	if wrong > 0 || seen == 0 {
		return fmt.Errorf("%d mistakes in %d objects", wrong, seen)
	}
	return nil
}

func mistakes(object runtime.Object) []string {
	switch object.(type) {
	case *monitoring.PodMonitor, *monitoring.PrometheusRule, *monitoring.ServiceMonitor:
		return nil // strictly decoded; what rules say is for promtool to judge
	}
	if named, ok := object.(metav1.Object); ok && named.GetNamespace() == "" {
		if _, cluster := object.(*corev1.Namespace); !cluster {
			named.SetNamespace(metav1.NamespaceDefault) // as kubectl says
		}
	}
	legacyscheme.Scheme.Default(object)
	internal, err := legacyscheme.Scheme.ConvertToVersion(object, runtime.InternalGroupVersioner)
	if err != nil {
		return []string{err.Error()}
	}
	var found field.ErrorList
	var also []string
	switch it := internal.(type) {
	case *apps.Deployment:
		found = appsvalidation.ValidateDeployment(it, podutil.GetValidationOptionsFromPodTemplate(&it.Spec.Template, nil))
		template := object.(*appsv1.Deployment).Spec.Template
		also = restricted(&template.ObjectMeta, &template.Spec)
	case *apps.StatefulSet:
		found = appsvalidation.ValidateStatefulSet(it, podutil.GetValidationOptionsFromPodTemplate(&it.Spec.Template, nil))
		template := object.(*appsv1.StatefulSet).Spec.Template
		also = restricted(&template.ObjectMeta, &template.Spec)
	case *core.ConfigMap:
		found = validation.ValidateConfigMap(it)
	case *core.Secret:
		found = validation.ValidateSecret(it)
	case *core.Service:
		if it.Spec.ClusterIP != "" && it.Spec.ClusterIPs == nil { // the API server fills the list from the one
			it.Spec.ClusterIPs = []string{it.Spec.ClusterIP}
		}
		found = validation.ValidateServiceCreate(it)
	case *core.ServiceAccount:
		found = validation.ValidateServiceAccount(it)
	case *core.Namespace:
		found = validation.ValidateNamespace(it)
	case *core.PersistentVolumeClaim:
		found = validation.ValidatePersistentVolumeClaim(it, validation.ValidationOptionsForPersistentVolumeClaim(it, nil))
	case *networking.NetworkPolicy:
		found = networkingvalidation.ValidateNetworkPolicy(it, networkingvalidation.NetworkPolicyValidationOptions{})
	default:
		return []string{"nobody here knows how to judge it"}
	}
	for _, each := range found {
		also = append(also, each.Error())
	}
	return also
}

// evaluator holds the newest version of every check.
var evaluator = func() policy.Evaluator {
	made, err := policy.NewEvaluator(policy.DefaultChecks())
	if err != nil {
		panic(err)
	}
	return made
}()
