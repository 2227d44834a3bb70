import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { Checker } from '../../agent/policy/check.js';
import { compile } from '../../agent/policy/compile.js';
import { policyFiles } from '../../agent/policy/files.js';
import { lintPolicies } from '../../agent/policy/lint.js';
import type { Diagnostic } from '../../agent/policy/model.js';
import { readPolicies } from '../../agent/policy/read.js';

/**
 * The policies that KubeArmor's users have published. The corpus is not part of the project: it is a directory of YAML
 * files, named by BELAY_CORPUS or standing beside the checkout.
 */
const root = fileURLToPath(new URL('../..', import.meta.url));
const corpus = process.env.BELAY_CORPUS ?? `${root}../shared/corpus/kubearmor`;
const present = existsSync(corpus);
if (!present) {
  process.stderr.write(
    `\n*** SKIPPED: the corpus of public policies is not at ${corpus}; set BELAY_CORPUS to its directory ***\n\n`,
  );
}

/**
 * What KubeArmor's own schema, validated strictly as kubectl does, rejects; with the lines of the errors.
 * Twice-written fields are ambiguous: readers differ in which of the two they keep.
 */
const INVALID: Readonly<Record<string, readonly number[]>> = {
  // A field written twice
  'cve__system__ksp-cve-2021-41277-metabase-file-inclusion.yaml': [37],
  'nist__system__hsp-nist-ca-9-audit-untrusted-read-on-sensitive-files.yaml': [37],
  'nist__system__ksp-ac-3-11-access-enforcement-restrict-access-to-specific-information-types.yaml': [49, 60],
  'nist__system__ksp-cm-7-4-least-functionality-nist.yaml': [20, 22, 24, 26, 28],
  'nist__system__ksp-nist-ac-6-10-prohibit-non-privileged-users-from-executing-privileged-functions.yaml': [
    105,
  ],
  'nist__system__ksp-nist-ca-9-audit-untrusted-read-on-sensitive-files.yaml': [38],
  // An unknown field: "recurive", labels outside matchLabels, rules inside the selector
  'cis__system__ksp-audit-cis-apache-tomcat-4.6.yaml': [20],
  'cve__system__ksp-block-mariadb-v-10-6-3-cve-2022-27455.yaml': [14],
  'cve__system__ksp-block-mariadb-v-10-6-3-cve-2022-27456.yaml': [14],
  'cve__system__ksp-block-mariadb-v-10-9-cve-2022-27444.yaml': [14],
  'cve__system__ksp-block-mariadb-v-10-9-cve-2022-27447.yaml': [14],
  'cve__system__ksp-block-mariadb-v-10-9-cve-2022-27448.yaml': [14],
  'java__system__ksp-block-virus-eduapps-sexo.yaml': [17, 18, 19, 23],
  'malware__system__ksp-block-linux-xorddos-trojan-process.yaml': [18],
  // "audit" for "Audit"
  'elastic__system__ksp-audit-elasticsearch-log-file-access.yaml': [20],
  // A host policy without the nodeSelector that the schema requires
  'stigs__system__hsp-audit-stig-ubuntu-20-010139-umount.yaml': [10],
  'stigs__system__hsp-audit-stig-ubuntu-20-010161-sudo.yaml': [10],
  'stigs__system__hsp-audit-stig-ubuntu-20-010162-sudoedit.yaml': [10],
  'stigs__system__hsp-audit-stig-ubuntu-20-010164-newgrp.yaml': [10],
  'stigs__system__hsp-audit-stig-ubuntu-20-010165-chcon.yaml': [10],
  'stigs__system__hsp-audit-stig-ubuntu-20-010168-chacl.yaml': [10],
  'stigs__system__hsp-audit-stig-ubuntu-20-010174-gpasswd.yaml': [10],
  'stigs__system__hsp-audit-stig-ubuntu-20-010177-crontab.yaml': [10],
  'stigs__system__hsp-audit-stig-ubuntu-20-010267-sensitive-syscall.yaml': [10],
  'stigs__system__hsp-audit-stig-ubuntu-20-010451-conf.yaml': [10],
  'stigs__system__hsp-block-stig-ubuntu-20-010419-log.yaml': [10],
  'stigs__system__hsp-block-stig-ubuntu-20-010422-syslog.yaml': [10],
};

const errorsOf = (diagnostics: readonly Diagnostic[]) =>
  diagnostics.filter(({ severity }) => severity === 'error');

describe.skipIf(!present)('public policies', () => {
  const files = present ? readdirSync(corpus).filter((name) => name.endsWith('.yaml')) : [];
  const read = (name: string) => readPolicies(readFileSync(`${corpus}/${name}`, 'utf8'), name);

  test('every valid one is read without an error, every invalid one named with its lines', () => {
    expect(files.length).toBeGreaterThan(250);
    for (const name of files) {
      const { policies, diagnostics } = read(name);
      const lines = errorsOf(diagnostics).map(({ at }) => at.line);
      expect({ name, lines }).toEqual({ name, lines: INVALID[name] ?? [] });
      expect({ name, policies: policies.length }).toEqual({ name, policies: name in INVALID ? 0 : 1 });
    }
    expect(files).toEqual(expect.arrayContaining(Object.keys(INVALID)));
  });

  test('every valid one has its rules: none is lost in reading', () => {
    for (const name of files.filter((file) => !(file in INVALID))) {
      const text = readFileSync(`${corpus}/${name}`, 'utf8');
      // One line names the object of each rule, and one each program of fromSource.
      const written = (text.match(/^ *(?:- *)?(path|dir|pattern|protocol|capability|execname):/gm) ?? [])
        .length;
      const [policy] = read(name).policies;
      const rules = policy?.rules ?? [];
      const sources = rules.reduce((sum, rule) => sum + ('sources' in rule ? rule.sources.length : 0), 0);
      expect({ name, count: rules.length + sources }).toEqual({ name, count: written });
    }
  });

  test('every valid one compiles', { timeout: 120_000 }, () => {
    const postures = { file: 'block', network: 'block', capabilities: 'block' } as const;
    const all = files.filter((file) => !(file in INVALID)).flatMap((name) => read(name).policies);
    for (const policy of all) {
      const compiled = compile([policy], postures);
      expect({ name: policy.name, diagnostics: compiled.ok ? [] : compiled.diagnostics }).toEqual({
        name: policy.name,
        diagnostics: [],
      });
    }
  });

  test('doubts stay few: at most one warning of a sort for a policy read alone', () => {
    for (const name of files) {
      const { policies } = read(name);
      expect(lintPolicies(policies).length).toBeLessThanOrEqual(4);
    }
  });
});

test('the example policies are beyond error and doubt', () => {
  const checker = new Checker();
  const files = policyFiles(`${root}deploy/examples`);
  for (const file of files) checker.add(readFileSync(file), file);
  expect(checker.finish()).toMatchObject({ errors: 0, warnings: 0, diagnostics: [] });
  expect(files.length).toBeGreaterThanOrEqual(5);
});
