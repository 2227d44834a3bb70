import { defineConfig } from 'vitest/config';

/**
 * `unit` runs anywhere; `api` and `cluster` where Kubernetes' programs are (KUBEBUILDER_ASSETS), `cluster` with its
 * node in a virtual machine; `kernel` loads programs into the running kernel and belongs in a virtual machine
 * (`make test-kernel KERNEL=6.12`), as `evasion` (`make test-evasion`) and `chaos` (`make chaos`) do, where everything is some
 * twenty times slower.
 */
export default defineConfig({
  cacheDir: '.cache/vitest',
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts', 'test/oracle/**/*.test.ts'],
          // for what hangs, not for what is slow
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: 'api',
          include: ['test/api/**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 180_000,
          // every file has a control plane of its own, which is work enough for a small machine
          fileParallelism: false,
        },
      },
      {
        test: {
          name: 'cluster',
          include: ['test/cluster/**/*.test.ts'],
          testTimeout: 600_000,
          hookTimeout: 600_000,
          // every file has a cluster of its own
          fileParallelism: false,
        },
      },
      {
        test: {
          name: 'evasion',
          include: ['test/evasion/**/*.test.ts'],
          testTimeout: 900_000,
          hookTimeout: 600_000,
        },
      },
      {
        test: {
          name: 'chaos',
          include: ['test/chaos/**/*.test.ts'],
          hookTimeout: 600_000,
        },
      },
      {
        test: {
          name: 'kernel',
          include: ['test/kernel/**/*.test.ts'],
          testTimeout: 300_000,
          hookTimeout: 600_000,
          // one machine, one kernel: the files share its hooks, cgroups and containers
          fileParallelism: false,
        },
      },
    ],
  },
});
