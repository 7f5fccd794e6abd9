// What can be fuzzed.
import { addonSubject } from './addon.js';
import { api } from './api.js';
import type { Subject } from './job.js';
import { readers } from './readers.js';

export const subjects: Readonly<Record<string, Subject<unknown>>> = { api, addon: addonSubject, readers };
