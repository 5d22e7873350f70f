import { show } from './page.js';

await show();
