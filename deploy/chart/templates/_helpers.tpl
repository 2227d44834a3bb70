{{- define "belay.selector" -}}
app.kubernetes.io/name: belay
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "belay.labels" -}}
{{ include "belay.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- /* What belongs to no namespace carries the release's, so that two releases do not collide. */ -}}
{{- define "belay.clusterName" -}}
{{ .Release.Namespace }}:{{ .Release.Name }}
{{- end }}

{{- /* The same where a colon is not allowed. */ -}}
{{- define "belay.globalName" -}}
{{ .Release.Name }}.{{ .Release.Namespace }}.security.belay.dev
{{- end }}

{{- define "belay.image" -}}
{{ .Values.image.repository }}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}
{{- else }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- /* The port in metricsAddress; empty when there is none, or only the pod itself reaches it. */ -}}
{{- define "belay.metricsPort" -}}
{{- with get .Values.config "metricsAddress" }}
{{- if not (regexMatch "^(127\\.|\\[::1\\]|localhost:)" .) }}{{ regexFind "[0-9]+$" . }}{{ end }}
{{- end }}
{{- end }}

{{- /* Where the container runtime's socket is. */ -}}
{{- define "belay.runtime" -}}
{{ dir (required "config.criSocket is not set, so the pod cannot be given the runtime's directory" (get .Values.config "criSocket")) }}
{{- end }}

{{- define "belay.listenPort" -}}
{{- with get .Values.config "listenAddress" }}{{ regexFind "[0-9]+$" . }}{{ end }}
{{- end }}

{{- /* Settings that an agent takes from its file while it runs; agent/cli/settings.ts says which. */ -}}
{{- define "belay.startConfig" -}}
{{- omit .Values.config "filePosture" "networkPosture" "capabilitiesPosture" "unknownPosture" "visibility" "alertThrottling" "maxAlertPerSec" "throttleSec" "dropResourceFromProcessLogs" "logLevel" | toYaml }}
{{- end }}

{{- /* Of every container; what it may do beyond this stands with it. */ -}}
{{- define "belay.securityContext" -}}
privileged: false
# The kernel's interfaces and the runtime's socket belong to root; of root's powers there are those listed here.
runAsUser: 0
runAsGroup: 0
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
# The runtimes' default profile lets bpf(2) and perf_event_open(2) pass for a container with CAP_BPF and CAP_PERFMON.
seccompProfile:
  type: RuntimeDefault
# Their default AppArmor profile forbids every write below /sys/fs but for cgroups, and so pins.
appArmorProfile:
  type: Unconfined
{{- with .Values.seLinuxOptions }}
seLinuxOptions:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
