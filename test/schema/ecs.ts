import { createRequire } from 'node:module';

interface Field {
  readonly type: string;
  readonly normalize: readonly string[];
  readonly allowed_values?: readonly {
    readonly name: string;
    readonly expected_event_types?: readonly string[];
  }[];
}

// the CommonJS build: its ES module build lacks the file extensions that Node wants
const { EcsFlat } = createRequire(import.meta.url)('@elastic/ecs') as {
  EcsFlat: Readonly<Record<string, Field>>;
};

/** What is wrong with a document, by the Elastic Common Schema's own list of fields; `belay.*` is ours. */
export function ecsFaults(document: object): string[] {
  const faults: string[] = [];
  const walk = (value: unknown, name: string): void => {
    if (name === 'belay') return;
    const field = EcsFlat[name];
    if (field === undefined || field.type === 'object') {
      if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
        if (field === undefined || name !== 'labels')
          for (const [key, each] of Object.entries(value)) walk(each, name === '' ? key : `${name}.${key}`);
        else if (!Object.values(value).every((each) => typeof each === 'string' || typeof each === 'number'))
          faults.push(`${name} is not flat`);
      } else faults.push(`${name} is no field of ECS`);
      return;
    }
    const list = field.normalize.includes('array');
    if (list !== Array.isArray(value)) faults.push(`${name} ${list ? 'must' : 'must not'} be a list`);
    for (const each of Array.isArray(value) ? value : [value]) {
      if (!hasType(each, field.type)) faults.push(`${name} is not ${field.type}: ${JSON.stringify(each)}`);
      const { allowed_values: allowed } = field;
      if (allowed?.length && !allowed.some((value) => value.name === each))
        faults.push(`${name} cannot be ${each}`);
    }
  };
  walk(document, '');
  return [...faults, ...eventTypeFaults(document)];
}

/** Every event.type must be expected in one of the categories. */
function eventTypeFaults(document: { event?: { category?: string[]; type?: string[] } }): string[] {
  const { category = [], type = [] } = document.event ?? {};
  const expected = (EcsFlat['event.category']?.allowed_values ?? [])
    .filter(({ name }) => category.includes(name))
    .flatMap(({ expected_event_types: types }) => types ?? []);
  return type
    .filter((each) => !expected.includes(each))
    .map((each) => `event.type ${each} does not belong to ${category}`);
}

function hasType(value: unknown, type: string): boolean {
  switch (type) {
    case 'date':
      return typeof value === 'string' && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/.test(value);
    case 'long':
      return Number.isSafeInteger(value);
    case 'float':
      return typeof value === 'number';
    case 'boolean':
      return typeof value === 'boolean';
    case 'ip':
      return typeof value === 'string' && /^([0-9.]+|[0-9a-f:.]+)$/.test(value);
    case 'keyword':
    case 'wildcard':
    case 'match_only_text':
    case 'constant_keyword':
      return typeof value === 'string';
    default:
      return true;
  }
}
