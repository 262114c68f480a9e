{{- /* Names are fixed, not made from the release's: a cluster has one installation, and roles, Jobs and people name its parts. */ -}}

{{- define "packgate.chart" -}}
{{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* On every object. The generated rbac.yaml has the same. */ -}}
{{- define "packgate.labels" -}}
app.kubernetes.io/name: packgate
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ include "packgate.chart" . | quote }}
{{- end }}

{{- /* Which Pods are the controller's. A Deployment's selector cannot be changed: nothing that varies may be here. */ -}}
{{- define "packgate.controllerSelector" -}}
app.kubernetes.io/name: packgate
app.kubernetes.io/component: controller
{{- end }}

{{- /* Which Pods are the webhook's. */ -}}
{{- define "packgate.webhookSelector" -}}
app.kubernetes.io/name: packgate
app.kubernetes.io/component: webhook
{{- end }}

{{- /* A digest pins the image; a tag beside it is only for people. Without either: the version that the chart was made for. */ -}}
{{- define "packgate.image" -}}
{{- $image := .Values.image -}}
{{- $tag := $image.tag -}}
{{- if not (or $tag $image.digest) }}{{ $tag = .Chart.AppVersion }}{{ end -}}
{{ $image.repository }}{{ with $tag }}:{{ . }}{{ end }}{{ with $image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- /* Where a credential provider's image is mounted. */ -}}
{{- define "packgate.providerFolder" -}}
/credential-providers/{{ .name }}
{{- end }}

{{- /* The volumes of controller and webhook: the images of credential providers, and those of the values. */ -}}
{{- define "packgate.extraVolumes" -}}
{{- range .Values.credentialProviders }}
{{- if .image }}
- name: credential-provider-{{ .name }}
  image:
    reference: {{ .image | quote }}
    pullPolicy: {{ $.Values.image.pullPolicy }}
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Where they are mounted. */ -}}
{{- define "packgate.extraVolumeMounts" -}}
{{- range .Values.credentialProviders }}
{{- if .image }}
- name: credential-provider-{{ .name }}
  mountPath: {{ include "packgate.providerFolder" . }}
  readOnly: true
{{- end }}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Not empty if a credential provider gets tokens of this kind of account: Pod or Installation. */ -}}
{{- define "packgate.providerTokens" -}}
{{- $kind := .kind -}}
{{- range .providers -}}
{{- with .tokenAttributes -}}
{{- if eq (.account | default "Pod") $kind }}true{{ end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* The registries, in JSON. */ -}}
{{- define "packgate.registries" -}}
{{- $registries := list -}}
{{- range .Values.registries -}}
  {{- $registry := dict "host" .host "plainHTTP" (.plainHTTP | default false) -}}
  {{- with .caRef }}{{ $_ := set $registry "caRef" (dict "kind" .kind "name" .name) }}{{ end -}}
  {{- with .secretRef }}{{ $_ := set $registry "secretRef" (dict "name" .name) }}{{ end -}}
  {{- with .tokenServices }}{{ $_ := set $registry "tokenServices" . }}{{ end -}}
  {{- with .mirrors }}{{ $_ := set $registry "mirrors" . }}{{ end -}}
  {{- $registries = append $registries $registry -}}
{{- end -}}
{{- toJson $registries -}}
{{- end }}

{{- /* What users need for the verdict of the webhook on the command line. Secrets have names only; arguments and environments of programs may be secret. */ -}}
{{- define "packgate.verificationConfig" -}}
registries: {{ include "packgate.registries" . }}
{{- $providers := list -}}
{{- range .Values.credentialProviders -}}
  {{- $provider := pick . "name" "matchImages" "defaultCacheDuration" -}}
  {{- $providers = append $providers (set $provider "command" (printf "/%s" (trimPrefix "/" .command))) -}}
{{- end -}}
{{- with $providers }}
credentialProviders: {{ toJson . }}
{{- end }}
webhook:
  timeoutSeconds: {{ .Values.webhook.timeoutSeconds }}
{{- end }}

{{- /* The configuration of controller and webhook. They refuse keys that they do not know, so each one is written out here. */ -}}
{{- define "packgate.config" -}}
{{- $values := .Values -}}
{{- $providers := list -}}
{{- range $values.credentialProviders -}}
  {{- $provider := omit . "image" -}}
  {{- if .image }}{{ $_ := set $provider "command" (printf "%s/%s" (include "packgate.providerFolder" .) (trimPrefix "/" .command)) }}{{ end -}}
  {{- $providers = append $providers $provider -}}
{{- end -}}
builder:
  id: {{ $values.builder.id | quote }}
registries: {{ include "packgate.registries" . }}
{{- with $providers }}
credentialProviders: {{ toJson . }}
{{- end }}
network:
  allowedPrivateCIDRs: {{ toJson $values.network.allowedPrivateCIDRs }}
  registryPrivateCIDRs: {{ toJson $values.network.registryPrivateCIDRs }}
signing:
  allowNone: {{ $values.signing.allowNone }}
noMatch:
  packedBundle: {{ $values.noMatch.packedBundle }}
  imageVolume: {{ $values.noMatch.imageVolume }}
  container: {{ $values.noMatch.container }}
webhook:
  timeoutSeconds: {{ $values.webhook.timeoutSeconds }}
  failurePolicy: {{ $values.webhook.failurePolicy }}
{{- with $values.webhook.clientCA }}
  clientCARef: {{ toJson (dict "kind" .kind "name" .name) }}
  clientNames: {{ toJson $values.webhook.clientNames }}
{{- end }}
{{- if $values.metrics.names }}
metrics:
  names: true
{{- end }}
jobs:
  imagePullPolicy: {{ $values.image.pullPolicy }}
  imagePullSecrets: {{ toJson $values.image.pullSecrets }}
  sign:
    maxConcurrent: {{ $values.jobs.sign.maxConcurrent }}
    maxConcurrentPerNamespace: {{ $values.jobs.sign.maxConcurrentPerNamespace }}
    timeoutSeconds: {{ $values.jobs.sign.timeoutSeconds }}
    resources: {{ toJson $values.jobs.sign.resources }}
{{- end }}
