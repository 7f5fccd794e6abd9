// The native sources as the package brings them, into dist/.
import { packSources } from '../install/sources.mjs';

packSources();
